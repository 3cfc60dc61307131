# Flags and helper functions shared by every folder.

add_library(crossdock_flags INTERFACE)
target_compile_options(crossdock_flags INTERFACE
  -Wall -Wextra -Werror -Wshadow -Wconversion -Wnon-virtual-dtor -Wold-style-cast)
if(CROSSDOCK_SANITIZE)
  target_compile_options(crossdock_flags INTERFACE -fsanitize=${CROSSDOCK_SANITIZE} -fno-omit-frame-pointer -fno-sanitize-recover=all)
  target_link_options(crossdock_flags INTERFACE -fsanitize=${CROSSDOCK_SANITIZE})
endif()

# crossdock_add_component(name source...): a folder of src/ as a library crossdock_<name>, whose headers are
# included as "<folder>/<file>.hpp".
function(crossdock_add_component name)
  add_library(crossdock_${name} STATIC ${ARGN})
  target_link_libraries(crossdock_${name} PUBLIC crossdock_flags fmt::fmt)
  target_include_directories(crossdock_${name} PUBLIC "${PROJECT_SOURCE_DIR}/include" "${PROJECT_SOURCE_DIR}/src")
endfunction()

# crossdock_add_test(name SOURCES source... [COMPONENTS component...] [LABELS label...] [TIMEOUT seconds]): a GoogleTest
# program that sees the internals of the named components (and needs them listed with all that they use).
function(crossdock_add_test name)
  cmake_parse_arguments(ARG "" "TIMEOUT" "SOURCES;COMPONENTS;LABELS" ${ARGN})
  if(NOT ARG_TIMEOUT)
    set(ARG_TIMEOUT 300)
  endif()
  add_executable(${name} ${ARG_SOURCES})
  target_include_directories(${name} PRIVATE "${PROJECT_SOURCE_DIR}/tests")
  foreach(component IN LISTS ARG_COMPONENTS)
    target_link_libraries(${name} PRIVATE crossdock_${component})
  endforeach()
  target_link_libraries(${name} PRIVATE crossdock_flags GTest::gtest GTest::gmock GTest::gtest_main Threads::Threads)
  add_test(NAME ${name} COMMAND ${name})
  set_tests_properties(${name} PROPERTIES TIMEOUT ${ARG_TIMEOUT} LABELS "${ARG_LABELS}")
endfunction()
