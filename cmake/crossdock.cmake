# Flags and helper functions shared by every folder.

add_library(crossdock_flags INTERFACE)
target_compile_options(crossdock_flags INTERFACE
  "$<$<COMPILE_LANGUAGE:CXX>:-Wall;-Wextra;-Wshadow;-Wconversion;-Wnon-virtual-dtor;-Wold-style-cast>")
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND CMAKE_CXX_COMPILER_VERSION VERSION_LESS 13)
  # GCC 12 warns of overlapping copies inside std::string's own operator+ (GCC bug 105651).
  target_compile_options(crossdock_flags INTERFACE $<$<COMPILE_LANGUAGE:CXX>:-Wno-restrict>)
endif()
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND CMAKE_CXX_COMPILER_VERSION VERSION_GREATER_EQUAL 13)
  # GCC 13 warns of copies beyond the inline buffer of fmt 9's bigint, which it has replaced by then.
  target_compile_options(crossdock_flags INTERFACE "$<$<COMPILE_LANGUAGE:CXX>:-Wno-array-bounds;-Wno-stringop-overflow>")
endif()
if(CROSSDOCK_WARNINGS_AS_ERRORS)
  target_compile_options(crossdock_flags INTERFACE $<$<COMPILE_LANGUAGE:CXX>:-Werror>)
endif()
if(CROSSDOCK_SANITIZE)
  target_compile_options(crossdock_flags INTERFACE
    "$<$<COMPILE_LANGUAGE:CXX>:-fsanitize=${CROSSDOCK_SANITIZE};-fno-omit-frame-pointer;-fno-sanitize-recover=all>")
  target_link_options(crossdock_flags INTERFACE -fsanitize=${CROSSDOCK_SANITIZE})
endif()
if(CROSSDOCK_SANITIZE MATCHES "thread" AND CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  # GCC warns wherever a fence is used, in libraries' headers too, because ThreadSanitizer does not model fences.
  target_compile_options(crossdock_flags INTERFACE $<$<COMPILE_LANGUAGE:CXX>:-Wno-tsan>)
endif()

# crossdock_add_component(name source...): a folder of src/ as a library crossdock_<name>, whose headers are
# included as "<folder>/<file>.hpp".
function(crossdock_add_component name)
  add_library(crossdock_${name} STATIC ${ARGN})
  target_link_libraries(crossdock_${name} PUBLIC crossdock_flags fmt::fmt)
  target_include_directories(crossdock_${name} PUBLIC "${PROJECT_SOURCE_DIR}/include" "${PROJECT_SOURCE_DIR}/src")
endfunction()

# crossdock_add_library(component...): the library that users get, `crossdock`: the objects of the components that
# exist, exporting what the public headers mark and nothing else.
function(crossdock_add_library)
  set(version_script "${PROJECT_SOURCE_DIR}/cmake/exported_symbols.map")
  add_library(crossdock SHARED "${version_script}")
  add_library(crossdock::crossdock ALIAS crossdock)
  foreach(component IN LISTS ARGN)
    if(TARGET crossdock_${component})
      # As objects, so that all of them are in; as a library for what the component itself links.
      target_sources(crossdock PRIVATE $<TARGET_OBJECTS:crossdock_${component}>)
      target_link_libraries(crossdock PRIVATE crossdock_${component})
    endif()
  endforeach()
  target_link_options(crossdock PRIVATE "LINKER:--version-script=${version_script}" LINKER:--exclude-libs,ALL)
  if(NOT CROSSDOCK_SANITIZE)
    target_link_options(crossdock PRIVATE LINKER:--no-undefined)
  endif()
  target_compile_features(crossdock INTERFACE cxx_std_20)
  target_include_directories(crossdock INTERFACE
    "$<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}/include>" "$<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>")
  set_target_properties(crossdock PROPERTIES
    LINKER_LANGUAGE CXX
    LINK_DEPENDS "${version_script}"
    VERSION "${PROJECT_VERSION}"
    SOVERSION "${PROJECT_VERSION_MAJOR}.${PROJECT_VERSION_MINOR}")
endfunction()

# crossdock_add_test(name SOURCES source... [COMPONENTS component...] [LABELS label...] [TIMEOUT seconds]): a GoogleTest
# program that sees the internals of the named components (and needs them listed with all that they use).
# Labels: soak (minutes or more; only `make soak`), slow (over half a minute; not under sanitizers), processes (ranks are
# forked; not under ThreadSanitizer).
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
