# A part of the installation (Install.cmake): files that name where other files have come to lie.
set(bindir ${CMAKE_INSTALL_PREFIX}/bin)
set(docdir ${CMAKE_INSTALL_PREFIX}/share/doc/svdllm)
set(sysconfdir ${CMAKE_INSTALL_PREFIX}/etc)
if(CMAKE_INSTALL_PREFIX STREQUAL "/usr")
  set(sysconfdir /etc)
endif()
file(REMOVE_RECURSE ${STAGING_DIR})

configure_file(${SOURCE_DIR}/packaging/svdllm.service.in ${STAGING_DIR}/svdllm.service @ONLY)
file(INSTALL ${STAGING_DIR}/svdllm.service DESTINATION ${CMAKE_INSTALL_PREFIX}/lib/systemd/system)
foreach(page svdllm.1 svdllm-server.8)
  string(REGEX REPLACE ".*\\." "" section ${page})
  configure_file(${SOURCE_DIR}/packaging/${page} ${STAGING_DIR}/${page} @ONLY)
  file(INSTALL ${STAGING_DIR}/${page} DESTINATION ${CMAKE_INSTALL_PREFIX}/share/man/man${section})
endforeach()
# Settings that are there are somebody's own.
if(NOT EXISTS "$ENV{DESTDIR}${sysconfdir}/default/svdllm")
  file(INSTALL ${SOURCE_DIR}/packaging/svdllm.default DESTINATION ${sysconfdir}/default RENAME svdllm)
endif()

# Shells complete what the client says, where it can.
foreach(shell bash zsh)
  execute_process(COMMAND ${CLIENT} completion ${shell} OUTPUT_FILE ${STAGING_DIR}/${shell}
    ERROR_QUIET RESULT_VARIABLE status)
  if(NOT status EQUAL 0)
    continue()
  endif()
  if(shell STREQUAL bash)
    file(INSTALL ${STAGING_DIR}/bash DESTINATION ${CMAKE_INSTALL_PREFIX}/share/bash-completion/completions RENAME svdllm)
  else()
    file(INSTALL ${STAGING_DIR}/zsh DESTINATION ${CMAKE_INSTALL_PREFIX}/share/zsh/vendor-completions RENAME _svdllm)
  endif()
endforeach()
