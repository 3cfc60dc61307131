// How often a thread asks for memory.
#pragma once

#include <cstdint>

namespace crossdock::tool {

/// Calls of operator new by this thread since it began, whoever's code made them. Programs that link this count.
[[nodiscard]] std::int64_t count_allocations() noexcept;

}  // namespace crossdock::tool
