// How many bytes a thread may move at once.
#pragma once

#include <cstdint>
#include <initializer_list>

namespace crossdock::cuda::device {

/// The largest power of two, 16 at most, that divides all of these addresses, strides and sizes in bytes.
[[nodiscard]] constexpr int access_bytes(std::initializer_list<std::uint64_t> values) noexcept {
  std::uint64_t bits = 16;
  for (const std::uint64_t value : values) bits |= value;
  return static_cast<int>(bits & (~bits + 1));
}

}  // namespace crossdock::cuda::device
