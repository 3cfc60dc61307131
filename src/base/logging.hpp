// The library's logger: spdlog, to standard error, warnings and worse unless CROSSDOCK_LOG says otherwise.
#pragma once

#include <memory>

#include <spdlog/logger.h>

namespace crossdock {

/// Made on first use; thread-safe.
[[nodiscard]] spdlog::logger& logger();

}  // namespace crossdock
