// The one place that names concrete backends.
#pragma once

#include <memory>

#include <crossdock/bootstrap.hpp>
#include <crossdock/buffer.hpp>

#include "backend/backend.hpp"
#include "backend/local_device.hpp"

namespace crossdock {

/// The backend for options.device. Collective. Throws kUnsupported, on every rank that asked for it, for a device that
/// this build has no backend for.
[[nodiscard]] std::unique_ptr<backend::Backend> make_backend(Bootstrap& bootstrap, const BufferOptions& options);

/// What belongs to it on this rank alone; the same errors.
[[nodiscard]] std::unique_ptr<backend::LocalDevice> make_local_device(Device device, const Topology& topology);

}  // namespace crossdock
