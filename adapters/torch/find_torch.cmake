# crossdock_find_torch(): the target crossdock_torch_headers_and_libraries, of the torch that CMAKE_PREFIX_PATH or
# Torch_DIR names (a Python package of torch: the folder that torch.utils.cmake_prefix_path prints).
# Not find_package(Torch): that wants a CUDA toolkit wherever torch was built with CUDA, and the adapter needs none.
function(crossdock_find_torch)
  set(hints "")
  foreach(folder IN LISTS CMAKE_PREFIX_PATH)
    list(APPEND hints "${folder}/../.." "${folder}")  # torch/share/cmake
  endforeach()
  if(Torch_DIR)
    list(APPEND hints "${Torch_DIR}/../../..")  # torch/share/cmake/Torch
  endif()
  find_path(CROSSDOCK_TORCH_INCLUDE_DIR ATen/core/Tensor.h HINTS ${hints} PATH_SUFFIXES include)
  find_library(CROSSDOCK_TORCH_LIBRARY torch_cpu HINTS ${hints} PATH_SUFFIXES lib)
  find_library(CROSSDOCK_C10_LIBRARY c10 HINTS ${hints} PATH_SUFFIXES lib)
  if(NOT CROSSDOCK_TORCH_INCLUDE_DIR OR NOT CROSSDOCK_TORCH_LIBRARY OR NOT CROSSDOCK_C10_LIBRARY)
    message(FATAL_ERROR "CROSSDOCK_BUILD_TORCH_ADAPTER needs torch: set CMAKE_PREFIX_PATH to what "
      "`python3 -c 'import torch; print(torch.utils.cmake_prefix_path)'` prints")
  endif()
  find_library(CROSSDOCK_TORCH_CUDA_LIBRARY torch_cuda HINTS ${hints} PATH_SUFFIXES lib)
  add_library(crossdock_torch_headers_and_libraries INTERFACE)
  target_include_directories(crossdock_torch_headers_and_libraries SYSTEM INTERFACE "${CROSSDOCK_TORCH_INCLUDE_DIR}")
  target_link_libraries(crossdock_torch_headers_and_libraries INTERFACE
    "${CROSSDOCK_TORCH_LIBRARY}" "${CROSSDOCK_C10_LIBRARY}")
endfunction()
