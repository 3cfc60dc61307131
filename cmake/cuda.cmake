# The CUDA backend: CROSSDOCK_CUDA is on where a CUDA compiler is found, and can be switched off.
include(CheckLanguage)
check_language(CUDA)
if(CMAKE_CUDA_COMPILER)
  set(cuda_is_found ON)
else()
  set(cuda_is_found OFF)
endif()
option(CROSSDOCK_CUDA "Build the backend for CUDA devices" ${cuda_is_found})

if(CROSSDOCK_CUDA)
  # Machine code for Ampere, Hopper and Blackwell data-centre devices; later ones take the last as PTX.
  if(NOT DEFINED CMAKE_CUDA_ARCHITECTURES)
    set(CMAKE_CUDA_ARCHITECTURES 80-real 90-real 100)
  endif()
  enable_language(CUDA)
  set(CMAKE_CUDA_STANDARD 17)  # CMake before 3.25.2 knows no later one; kernels need none
  set(CMAKE_CUDA_STANDARD_REQUIRED ON)
  find_package(CUDAToolkit 12.1 REQUIRED)
endif()
