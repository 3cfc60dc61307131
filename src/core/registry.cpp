#include "core/registry.hpp"

#include "backend/host/factory.hpp"
#include "base/error.hpp"
#include "core/host_device.hpp"

namespace crossdock {

namespace {

Error no_cuda() {
  return make_error(ErrorCode::kUnsupported,
                    "this build has no backend for CUDA devices; DeviceType::kHost is allowed");
}

}  // namespace

std::unique_ptr<backend::Backend> make_backend(Bootstrap& bootstrap, const BufferOptions& options) {
  switch (options.device.type) {
    case DeviceType::kHost: return host::make_backend(bootstrap, options);
    case DeviceType::kCuda: break;
  }
  throw no_cuda();
}

std::unique_ptr<backend::LocalDevice> make_local_device(Device device, const Topology& topology) {
  switch (device.type) {
    case DeviceType::kHost: return std::make_unique<HostDevice>(topology);
    case DeviceType::kCuda: break;
  }
  throw no_cuda();
}

}  // namespace crossdock
