// Version of the headers; compare with version() of the library.
#pragma once

#include <string_view>

#include <crossdock/export.hpp>

#define CROSSDOCK_VERSION_MAJOR 0
#define CROSSDOCK_VERSION_MINOR 1
#define CROSSDOCK_VERSION_PATCH 0

namespace crossdock {

/// "0.1.0": the version of the library that is linked.
[[nodiscard]] CROSSDOCK_EXPORT std::string_view version() noexcept;

}  // namespace crossdock
