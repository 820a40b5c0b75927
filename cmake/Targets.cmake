add_library(svdllm_options INTERFACE)
target_compile_options(svdllm_options INTERFACE -Wall -Wextra -Wno-unused-parameter
  $<$<BOOL:${SVDLLM_WERROR}>:-Werror>
  # g++ 12 at -O3 warns wrongly about "literal" + std::string (GCC bug 105651).
  $<$<CONFIG:Release>:-Wno-restrict>)
target_include_directories(svdllm_options INTERFACE ${CMAKE_SOURCE_DIR}/src ${CMAKE_SOURCE_DIR})
target_compile_definitions(svdllm_options INTERFACE SVDLLM_VERSION="${PROJECT_VERSION}")
# What tells two builds of the program apart (src/base/build_id.h).
target_link_options(svdllm_options INTERFACE LINKER:--build-id=sha1)
if(SVDLLM_SANITIZE)
  # -O1, half the compiler's time of -O2 with the sanitizers; -g1: reports name lines, more takes half
  # of its time again. Null pointers are the address sanitizer's too.
  target_compile_options(svdllm_options INTERFACE
    -fsanitize=${SVDLLM_SANITIZE} -fno-sanitize=null,vptr -fno-omit-frame-pointer -O1 -g1)
  target_link_options(svdllm_options INTERFACE -fsanitize=${SVDLLM_SANITIZE})
  # Messages of protobuf are laid out differently where this is defined, and its library is not.
  if(SVDLLM_SANITIZE MATCHES "thread")
    target_compile_options(svdllm_options INTERFACE -U__SANITIZE_THREAD__)
  endif()
endif()
if(SVDLLM_FUZZ)
  # Coverage for libFuzzer, whose main() the targets of tests/fuzz alone link. An undefined behaviour
  # ends the program: one that is only printed would be found and not seen.
  target_compile_options(svdllm_options INTERFACE -fsanitize=fuzzer-no-link -fno-sanitize-recover=all)
endif()

# What tests compile with, behind all other options.
add_library(svdllm_test_options INTERFACE)
if(SVDLLM_SANITIZE)
  # What is checked are the sources: in the tests' own code it costs the compiler more than all the
  # rest of a sanitizer build, and finds faults of tests alone.
  # -Wno-restrict as above.
  target_compile_options(svdllm_test_options INTERFACE -fno-sanitize=all -Wno-restrict)
  # Their code cannot see it by itself: what they test is sanitized.
  target_compile_definitions(svdllm_test_options INTERFACE SVDLLM_SANITIZED)
else()
  # A third less of the compiler's time than -O3: the time of a test is spent in what it tests.
  target_compile_options(svdllm_test_options INTERFACE $<$<CONFIG:Release>:-O1>)
endif()

# svdllm_library(NAME SOURCES ... DEPS ...): the one target of a folder.
function(svdllm_library name)
  cmake_parse_arguments(ARG "" "" "SOURCES;DEPS;PRIVATE_DEPS" ${ARGN})
  add_library(svdllm_${name} STATIC ${ARG_SOURCES})
  target_link_libraries(svdllm_${name} PUBLIC svdllm_options ${ARG_DEPS} PRIVATE ${ARG_PRIVATE_DEPS})
endfunction()

# svdllm_module(NAME SOURCES ... DEPS ...): a shared object that base/module.h opens at run time.
set(SVDLLM_MODULE_DIR ${CMAKE_BINARY_DIR}/modules)
function(svdllm_module name)
  cmake_parse_arguments(ARG "" "" "SOURCES;DEPS" ${ARGN})
  add_library(svdllm_${name} MODULE ${ARG_SOURCES})
  target_link_libraries(svdllm_${name} PRIVATE svdllm_options ${ARG_DEPS})
  set_target_properties(svdllm_${name} PROPERTIES PREFIX "" CXX_VISIBILITY_PRESET hidden
    LIBRARY_OUTPUT_DIRECTORY ${SVDLLM_MODULE_DIR})
endfunction()

# svdllm_test(NAME SOURCES ... DEPS ... [LABELS ...] [TIMEOUT s]): one test binary, one ctest entry.
function(svdllm_test name)
  cmake_parse_arguments(ARG "" "TIMEOUT" "SOURCES;DEPS;LABELS" ${ARGN})
  if(NOT ARG_TIMEOUT)
    set(ARG_TIMEOUT 300)
  endif()
  add_executable(${name} ${ARG_SOURCES})
  target_link_libraries(${name} PRIVATE ${ARG_DEPS} GTest::gtest GTest::gmock GTest::gtest_main
    svdllm_source_dir svdllm_built_modules svdllm_test_options)
  add_test(NAME ${name} COMMAND ${name})
  set_tests_properties(${name} PROPERTIES LABELS "${ARG_LABELS}" TIMEOUT ${ARG_TIMEOUT})
endfunction()
