# Installs crossdock into a scratch folder, builds a project against it from nothing, and runs that project's tests.
# cmake -D CROSSDOCK_BINARY_DIR=... -D PROJECT_DIR=... -D SCRATCH_DIR=... -D GENERATOR=... -D COMPILER=...
#   [-D FURTHER=argument] -P run.cmake

function(run)
  execute_process(COMMAND ${ARGN} COMMAND_ECHO STDOUT COMMAND_ERROR_IS_FATAL ANY)
endfunction()

file(REMOVE_RECURSE "${SCRATCH_DIR}")
run("${CMAKE_COMMAND}" --install "${CROSSDOCK_BINARY_DIR}" --component library --prefix "${SCRATCH_DIR}/prefix")
# Moved, because a package must work wherever it lies.
file(RENAME "${SCRATCH_DIR}/prefix" "${SCRATCH_DIR}/moved")
run("${CMAKE_COMMAND}" -G "${GENERATOR}" -S "${PROJECT_DIR}" -B "${SCRATCH_DIR}/build"
  -D "CMAKE_PREFIX_PATH=${SCRATCH_DIR}/moved" -D "CMAKE_CXX_COMPILER=${COMPILER}"
  -D CMAKE_FIND_USE_PACKAGE_REGISTRY=OFF -D CMAKE_FIND_USE_SYSTEM_PACKAGE_REGISTRY=OFF
  -D CMAKE_FIND_USE_CMAKE_SYSTEM_PATH=OFF ${FURTHER})
run("${CMAKE_COMMAND}" --build "${SCRATCH_DIR}/build")
run("${CMAKE_CTEST_COMMAND}" --test-dir "${SCRATCH_DIR}/build" --no-tests=error --verbose)
