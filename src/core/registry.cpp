#include "core/registry.hpp"

#include "backend/host/factory.hpp"
#include "base/error.hpp"

namespace crossdock {

std::unique_ptr<backend::Backend> make_backend(Bootstrap& bootstrap, const BufferOptions& options) {
  switch (options.device.type) {
    case DeviceType::kHost: return host::make_backend(bootstrap, options);
    case DeviceType::kCuda: break;
  }
  throw make_error(ErrorCode::kUnsupported, "this build has no backend for CUDA devices; DeviceType::kHost is allowed");
}

}  // namespace crossdock
