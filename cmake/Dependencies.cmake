# Everything comes from the distribution's packages: nothing is vendored, nothing is downloaded.
find_package(Threads REQUIRED)
find_package(PkgConfig REQUIRED)
find_package(OpenMP REQUIRED COMPONENTS CXX)
find_package(OpenSSL REQUIRED COMPONENTS Crypto)
find_package(Protobuf REQUIRED)  # the module: Debian ships no config file; before gRPC, which needs it
find_package(gRPC CONFIG REQUIRED)
find_package(absl CONFIG REQUIRED)
find_package(spdlog CONFIG REQUIRED)
find_package(fmt CONFIG REQUIRED)
find_package(CLI11 CONFIG REQUIRED)
find_package(nlohmann_json CONFIG REQUIRED)
find_package(prometheus-cpp CONFIG REQUIRED)
find_package(SQLite3 REQUIRED)
find_package(ZLIB REQUIRED)
# Never name a prefix re2, c-ares, ZLIB, OPENSSL or Protobuf: gRPC's configuration reads those
# variables, and the second configure would fail.
pkg_check_modules(PCRE2 REQUIRED IMPORTED_TARGET libpcre2-8)
pkg_check_modules(MICROHTTPD REQUIRED IMPORTED_TARGET libmicrohttpd)
pkg_check_modules(GNUTLS REQUIRED IMPORTED_TARGET gnutls)
pkg_check_modules(YAML REQUIRED IMPORTED_TARGET yaml-0.1)
pkg_check_modules(ZSTD REQUIRED IMPORTED_TARGET libzstd)
pkg_check_modules(SENTENCEPIECE REQUIRED IMPORTED_TARGET sentencepiece)
find_path(LAPACK_INCLUDE_DIR lapack.h REQUIRED)  # the declarations only: OpenBLAS carries LAPACK
find_path(MUSTACHE_INCLUDE_DIR kainjow/mustache.hpp REQUIRED)

# OpenBLAS built on OpenMP: its threads and our parallel loops are then one pool, and a product
# called inside a parallel loop runs on one thread, so that pools never nest.
find_library(OPENBLAS_LIBRARY openblas PATH_SUFFIXES openblas-openmp REQUIRED)
find_path(OPENBLAS_INCLUDE_DIR cblas.h PATH_SUFFIXES openblas-openmp REQUIRED)
add_library(svdllm_openblas INTERFACE)
target_include_directories(svdllm_openblas INTERFACE ${OPENBLAS_INCLUDE_DIR} ${LAPACK_INCLUDE_DIR})
target_link_libraries(svdllm_openblas INTERFACE ${OPENBLAS_LIBRARY})
get_filename_component(OPENBLAS_DIR ${OPENBLAS_LIBRARY} DIRECTORY)
# Every variant has the same soname; the directory in the run path picks this one.
target_link_options(svdllm_openblas INTERFACE "LINKER:-rpath,${OPENBLAS_DIR}")

if(SVDLLM_BUILD_TESTS)
  find_package(Eigen3 CONFIG REQUIRED)
  find_package(GTest CONFIG REQUIRED)
endif()
if(SVDLLM_BUILD_BENCH)
  find_package(benchmark CONFIG REQUIRED)
endif()
