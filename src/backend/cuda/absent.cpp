// What the door leads to in a build without CUDA.
#include "backend/cuda/factory.hpp"
#include "base/error.hpp"

namespace crossdock::cuda {

Parts make_parts(Bootstrap& /*bootstrap*/, const BufferOptions& /*options*/) {
  throw make_error(ErrorCode::kUnsupported, "this build has no backend for CUDA devices; DeviceType::kHost is allowed");
}

}  // namespace crossdock::cuda
