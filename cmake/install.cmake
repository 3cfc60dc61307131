# What `cmake --install` puts where, as the component "library": headers, the library and its CMake package. The folder of
# the command line installs that.
include(CMakePackageConfigHelpers)

set(package_directory "${CMAKE_INSTALL_LIBDIR}/cmake/crossdock")

install(DIRECTORY include/crossdock DESTINATION "${CMAKE_INSTALL_INCLUDEDIR}" COMPONENT library
  FILES_MATCHING PATTERN "*.hpp")
install(TARGETS crossdock EXPORT crossdock LIBRARY
  DESTINATION "${CMAKE_INSTALL_LIBDIR}" COMPONENT library NAMELINK_COMPONENT library)
install(EXPORT crossdock NAMESPACE crossdock:: FILE crossdock-targets.cmake
  DESTINATION "${package_directory}" COMPONENT library)
install(FILES LICENSE DESTINATION "${CMAKE_INSTALL_DATAROOTDIR}/doc/crossdock" COMPONENT library)

configure_package_config_file(cmake/crossdock-config.cmake.in "${PROJECT_BINARY_DIR}/cmake/crossdock-config.cmake"
  INSTALL_DESTINATION "${package_directory}" NO_SET_AND_CHECK_MACRO)
# Before 1.0 a minor version may break what the one before it promised.
write_basic_package_version_file("${PROJECT_BINARY_DIR}/cmake/crossdock-config-version.cmake"
  COMPATIBILITY SameMinorVersion)
install(FILES
  "${PROJECT_BINARY_DIR}/cmake/crossdock-config.cmake" "${PROJECT_BINARY_DIR}/cmake/crossdock-config-version.cmake"
  DESTINATION "${package_directory}" COMPONENT library)
