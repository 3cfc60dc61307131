// CUDA's errors as crossdock's.
#pragma once

#include <cuda_runtime_api.h>

#include <source_location>
#include <string_view>

#include <crossdock/error.hpp>

namespace crossdock::cuda {

/// kCapacity if memory is missing, else kSystem, with CUDA's own name and text of the error.
[[nodiscard]] Error cuda_error(cudaError_t error, std::string_view what,
                               std::source_location where = std::source_location::current());

/// Throws it unless the call succeeded: check(cudaMalloc(...), "cudaMalloc of an arena").
inline void check(cudaError_t error, std::string_view what,
                  std::source_location where = std::source_location::current()) {
  if (error != cudaSuccess) [[unlikely]] {
    throw cuda_error(error, what, where);
  }
}

}  // namespace crossdock::cuda
