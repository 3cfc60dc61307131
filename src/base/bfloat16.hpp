// bfloat16 as crossdock defines it: the upper half of a binary32.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>

namespace crossdock {

struct Bfloat16 {
  std::uint16_t bits = 0;

  friend bool operator==(Bfloat16, Bfloat16) = default;
};
static_assert(sizeof(Bfloat16) == 2);

/// What every NaN result becomes, so that results do not depend on how hardware propagates payloads.
inline constexpr std::uint16_t kBfloat16Nan = 0x7FC0;
inline constexpr std::uint32_t kFloat32Nan = 0x7FC00000;

[[nodiscard]] inline float with_canonical_nan(float value) noexcept {
  return value != value ? std::bit_cast<float>(kFloat32Nan) : value;
}

[[nodiscard]] inline float to_float(Bfloat16 value) noexcept {
  return std::bit_cast<float>(static_cast<std::uint32_t>(value.bits) << 16U);
}

/// Rounds to nearest, ties to even; subnormals are kept; every NaN becomes kBfloat16Nan.
[[nodiscard]] inline Bfloat16 to_bfloat16(float value) noexcept {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  if ((bits & 0x7FFFFFFFU) > 0x7F800000U) return {kBfloat16Nan};
  return {static_cast<std::uint16_t>((bits + 0x7FFFU + ((bits >> 16U) & 1U)) >> 16U)};
}

}  // namespace crossdock
