// Messages between the host and kernels whose words say for themselves that they are there.
#pragma once

#include <cstdint>

namespace crossdock::cuda::device {

/// 32 bits of a message and the number of the message: one access stores or loads both, so nobody has to wait until all
/// words are stored before he says so. Numbers of the messages that a place has held must differ, and not be 0.
[[nodiscard]] constexpr std::uint64_t stamped(std::uint32_t number, std::uint32_t value) noexcept {
  return std::uint64_t{number} << 32U | value;
}
[[nodiscard]] constexpr bool is_stamped(std::uint64_t word, std::uint32_t number) noexcept {
  return word >> 32U == number;
}
[[nodiscard]] constexpr std::uint32_t value_of(std::uint64_t word) noexcept { return static_cast<std::uint32_t>(word); }

}  // namespace crossdock::cuda::device
