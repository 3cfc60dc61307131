# crossdock_find_torch(target): makes the imported target `target` of the torch that CMAKE_PREFIX_PATH or Torch_DIR names
# (a Python package of torch: the folder that torch.utils.cmake_prefix_path prints), and sets CROSSDOCK_TORCH_VERSION to
# its major and minor number. Without torch there is no target.
# Not find_package(Torch): that wants a CUDA toolkit wherever torch was built with CUDA, and the adapter needs none.
function(crossdock_find_torch target)
  set(hints "")
  foreach(folder IN LISTS CMAKE_PREFIX_PATH)
    list(APPEND hints "${folder}/../.." "${folder}")  # torch/share/cmake
  endforeach()
  if(Torch_DIR)
    list(APPEND hints "${Torch_DIR}/../../..")  # torch/share/cmake/Torch
  endif()
  find_path(CROSSDOCK_TORCH_INCLUDE_DIR ATen/core/Tensor.h HINTS ${hints} PATH_SUFFIXES include)
  find_library(CROSSDOCK_TORCH_LIBRARY torch_cpu HINTS ${hints} PATH_SUFFIXES lib)
  find_library(CROSSDOCK_TORCH_CUDA_LIBRARY torch_cuda HINTS ${hints} PATH_SUFFIXES lib)
  find_library(CROSSDOCK_C10_LIBRARY c10 HINTS ${hints} PATH_SUFFIXES lib)
  if(NOT CROSSDOCK_TORCH_INCLUDE_DIR OR NOT CROSSDOCK_TORCH_LIBRARY OR NOT CROSSDOCK_C10_LIBRARY)
    return()
  endif()
  set(version "")
  foreach(header IN ITEMS torch/headeronly/version.h torch/csrc/api/include/torch/version.h)
    if(version STREQUAL "" AND EXISTS "${CROSSDOCK_TORCH_INCLUDE_DIR}/${header}")
      file(STRINGS "${CROSSDOCK_TORCH_INCLUDE_DIR}/${header}" lines REGEX "define TORCH_VERSION_(MAJOR|MINOR) [0-9]+")
      string(REGEX REPLACE "[^0-9;]" "" numbers "${lines}")
      list(JOIN numbers "." version)
    endif()
  endforeach()
  set(CROSSDOCK_TORCH_VERSION "${version}" PARENT_SCOPE)
  add_library(${target} INTERFACE IMPORTED GLOBAL)
  target_include_directories(${target} SYSTEM INTERFACE "${CROSSDOCK_TORCH_INCLUDE_DIR}")
  target_link_libraries(${target} INTERFACE "${CROSSDOCK_TORCH_LIBRARY}" "${CROSSDOCK_C10_LIBRARY}")
endfunction()
