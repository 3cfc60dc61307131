// The only door to the host backend.
#pragma once

#include <memory>
#include <string_view>

#include <crossdock/bootstrap.hpp>
#include <crossdock/buffer.hpp>

#include "backend/backend.hpp"

namespace crossdock::host {

/// Collective. Throws what Buffer's constructor documents.
[[nodiscard]] std::unique_ptr<backend::Backend> make_backend(Bootstrap& bootstrap, const BufferOptions& options);

/// The instruction set of the copy and reduction loops on this machine, as Highway names it.
[[nodiscard]] std::string_view simd_target_name();

}  // namespace crossdock::host
