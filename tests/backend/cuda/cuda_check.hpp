// Errors of CUDA in tests.
#pragma once

#include <cuda_runtime_api.h>

#include <stdexcept>
#include <string>

namespace crossdock::testing {

/// Throws unless a call of CUDA went well.
inline void check(cudaError_t error) {
  if (error != cudaSuccess) throw std::runtime_error(std::string("CUDA: ") + cudaGetErrorString(error));
}

}  // namespace crossdock::testing
