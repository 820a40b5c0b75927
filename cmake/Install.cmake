# What `cmake --install` puts where, and the Debian package of it (scripts/make_deb).
#
# src/base/module.h looks for modules in ../lib/svdllm from the executable.
include(GNUInstallDirs)
set(modules svdllm_sentencepiece)
if(SVDLLM_CUDA)
  list(APPEND modules svdllm_cuda)
endif()
install(TARGETS svdllm-server svdllm RUNTIME DESTINATION bin)
install(TARGETS ${modules} LIBRARY DESTINATION lib/svdllm)
install(FILES LICENSE README.md CHANGELOG.md SECURITY.md DESTINATION share/doc/svdllm)
install(DIRECTORY docs DESTINATION share/doc/svdllm FILES_MATCHING PATTERN "*.md"
  PATTERN adr EXCLUDE PATTERN howto EXCLUDE)
install(FILES proto/svdllm/v1/compression.proto DESTINATION share/svdllm/proto/svdllm/v1)
# The unit, its settings and the manual pages name places that only the installation knows.
install(CODE "
set(SOURCE_DIR \"${CMAKE_SOURCE_DIR}\")
set(STAGING_DIR \"${CMAKE_BINARY_DIR}/install\")
set(CLIENT \"$<TARGET_FILE:svdllm>\")
set(version \"${PROJECT_VERSION}\")")
install(SCRIPT cmake/install_service.cmake)
# What is installed, and not the tests, is what has to be built for it.
add_custom_target(installed DEPENDS svdllm-server svdllm ${modules})
set(CMAKE_SKIP_INSTALL_ALL_DEPENDENCY ON)

set(CPACK_GENERATOR DEB)
set(CPACK_SET_DESTDIR ON)
set(CPACK_INSTALL_PREFIX /usr)
set(CPACK_STRIP_FILES ON)
set(CPACK_PACKAGE_NAME svdllm)
set(CPACK_PACKAGE_VENDOR "the svdllm authors")
set(CPACK_PACKAGE_CONTACT "the svdllm authors")
set(CPACK_PACKAGE_DESCRIPTION_SUMMARY "compresses language models by low-rank factors, as a service")
set(CPACK_DEBIAN_PACKAGE_DESCRIPTION "A server with a queue of jobs behind a gRPC API, its client, and a systemd unit.
It replaces each large weight matrix of a model by two thin ones and publishes
a model that transformers and vLLM load, with a report of what was measured.")
set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
set(CPACK_DEBIAN_PACKAGE_SECTION science)
set(CPACK_DEBIAN_PACKAGE_PRIORITY optional)
# What the binaries link with is read from them. Of OpenBLAS it has to be this variant: the others
# have the same soname (Dependencies.cmake).
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS ON)
set(CPACK_DEBIAN_PACKAGE_DEPENDS "libopenblas0-openmp, init-system-helpers, passwd")
set(CPACK_DEBIAN_PACKAGE_CONTROL_STRICT_PERMISSION ON)
set(CPACK_DEBIAN_PACKAGE_CONTROL_EXTRA)
foreach(script postinst prerm postrm conffiles)
  list(APPEND CPACK_DEBIAN_PACKAGE_CONTROL_EXTRA ${CMAKE_SOURCE_DIR}/packaging/debian/${script})
endforeach()
include(CPack)
