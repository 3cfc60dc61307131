// The one place that names concrete backends.
#pragma once

#include <memory>

#include <crossdock/bootstrap.hpp>
#include <crossdock/buffer.hpp>
#include <crossdock/topology.hpp>

#include "backend/backend.hpp"
#include "backend/local_device.hpp"

namespace crossdock {

/// What a buffer is made of.
struct BufferParts {
  std::unique_ptr<backend::LocalDevice> local_device;
  std::unique_ptr<backend::Backend> backend;
};

/// Those for options.device. Collective. Throws kUnsupported, on every rank that asked for it, for a device that this
/// build has no backend for.
[[nodiscard]] BufferParts make_buffer_parts(Bootstrap& bootstrap, const BufferOptions& options,
                                            const Topology& topology);

}  // namespace crossdock
