# install_template(TEMPLATE.in DESTINATION): installs TEMPLATE, with @BINDIR@ replaced by the folder into which the
# programs are installed. Only `cmake --install` knows its prefix, so it writes the file, not the configuration of the
# build.
function(install_template template destination)
  get_filename_component(name ${template} NAME_WLE)
  set(filled ${CMAKE_CURRENT_BINARY_DIR}/${name})
  install(CODE "
    cmake_path(ABSOLUTE_PATH CMAKE_INSTALL_PREFIX NORMALIZE OUTPUT_VARIABLE prefix)
    cmake_path(APPEND prefix [[${CMAKE_INSTALL_BINDIR}]] OUTPUT_VARIABLE BINDIR)
    configure_file([[${CMAKE_CURRENT_SOURCE_DIR}/${template}]] [[${filled}]] @ONLY)")
  install(FILES ${filled} DESTINATION ${destination})
endfunction()
