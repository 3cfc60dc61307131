// Shared memory for the copy limit, in pages of the usual size or of 2 MiB.
#pragma once

#include <cstddef>
#include <span>

namespace copy_limit {

enum class Pages { kSmall, kHuge };

/// Populated, writable by children of this process, kept until it ends. Empty if huge pages are refused, which the
/// caller reports; small pages are never refused without std::system_error.
[[nodiscard]] std::span<std::byte> shared_memory(std::size_t bytes, Pages pages);

}  // namespace copy_limit
