// How kernels are loaded before any runs: CUDA loads a kernel when it is first asked about, and waits then for those
// that run, which may wait for other ranks.
#pragma once

#include <cuda_runtime_api.h>

namespace crossdock::cuda::device {

/// The first error, if there is one.
template <typename... Kernels>
[[nodiscard]] cudaError_t load_kernels(Kernels... kernels) {
  cudaError_t error = cudaSuccess;
  const auto load = [&](auto kernel) {
    cudaFuncAttributes attributes;
    if (error == cudaSuccess) error = cudaFuncGetAttributes(&attributes, kernel);
  };
  (load(kernels), ...);
  return error;
}

}  // namespace crossdock::cuda::device
