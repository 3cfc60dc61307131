#include "backend/cuda/cuda_error.hpp"

#include <fmt/format.h>

namespace crossdock::cuda {

Error cuda_error(cudaError_t error, std::string_view what, std::source_location where) {
  static_cast<void>(cudaGetLastError());  // or the next call that looks at it would report this one
  const ErrorCode code = error == cudaErrorMemoryAllocation ? ErrorCode::kCapacity : ErrorCode::kSystem;
  return {code, fmt::format("{}: {} ({})", what, cudaGetErrorString(error), cudaGetErrorName(error)), where};
}

}  // namespace crossdock::cuda
