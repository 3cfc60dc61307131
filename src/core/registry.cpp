#include "core/registry.hpp"

#include "backend/cuda/factory.hpp"
#include "backend/host/factory.hpp"
#include "base/error.hpp"
#include "core/host_device.hpp"

namespace crossdock {

Event capture_stream(const Stream& stream) {
  switch (stream.device.type) {
    case DeviceType::kHost: return Event();
    case DeviceType::kCuda: return cuda::capture_stream(stream);
  }
  throw make_error(ErrorCode::kUnsupported, "there is no backend for device type {}",
                   static_cast<int>(stream.device.type));
}

BufferParts make_buffer_parts(Bootstrap& bootstrap, const BufferOptions& options, const Topology& topology) {
  switch (options.device.type) {
    case DeviceType::kHost: return {std::make_unique<HostDevice>(topology), host::make_backend(bootstrap, options)};
    case DeviceType::kCuda: {
      cuda::Parts parts = cuda::make_parts(bootstrap, options);
      return {std::move(parts.local_device), std::move(parts.backend)};
    }
  }
  throw make_error(ErrorCode::kUnsupported, "there is no backend for device type {}",
                   static_cast<int>(options.device.type));
}

}  // namespace crossdock
