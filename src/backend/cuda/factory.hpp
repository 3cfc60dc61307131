// The only door to the CUDA backend. Builds without CUDA have it too: there everything throws kUnsupported.
#pragma once

#include <memory>

#include <crossdock/bootstrap.hpp>
#include <crossdock/buffer.hpp>

#include "backend/backend.hpp"
#include "backend/local_device.hpp"

namespace crossdock::cuda {

struct Parts {
  std::unique_ptr<backend::LocalDevice> local_device;
  std::unique_ptr<backend::Backend> backend;
};

/// Collective. Throws what Buffer's constructor documents.
[[nodiscard]] Parts make_parts(Bootstrap& bootstrap, const BufferOptions& options);

}  // namespace crossdock::cuda
