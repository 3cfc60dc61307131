#include "codec/float8.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>

namespace crossdock::codec {

namespace {

constexpr std::uint32_t kMagnitudeMask = 0x7FFFFFFF;
constexpr std::uint32_t kInfinityBits = 0x7F800000;
constexpr std::uint32_t kMaxBits = std::bit_cast<std::uint32_t>(kFloat8Max);
constexpr std::uint8_t kMaxCode = 0x7E;
constexpr float kInverseOfMax = 1.0F / kFloat8Max;

constexpr int kMantissaBits = 23;
constexpr int kBias = 127;
constexpr int kDroppedBits = kMantissaBits - 3;  // E4M3 keeps three
constexpr int kFloat8Bias = 7;
/// 2^-6: smaller values are subnormal in E4M3, multiples of 2^-9.
constexpr std::uint32_t kMinNormalBits = static_cast<std::uint32_t>(kBias - 6) << kMantissaBits;

/// value / 2^shift to nearest, ties to even. REQUIRES: 1 <= shift <= 24, value < 2^31.
constexpr std::uint32_t shift_rounding(std::uint32_t value, int shift) noexcept {
  const std::uint32_t is_odd = (value >> shift) & 1U;
  return (value + (1U << (shift - 1)) - 1U + is_odd) >> shift;
}

constexpr std::uint32_t encode_subnormal(std::uint32_t magnitude) noexcept {
  const int exponent = static_cast<int>(magnitude >> kMantissaBits) - kBias;
  if (exponent < -10) return 0;  // less than half of 2^-9
  const std::uint32_t significand = (magnitude & 0x7FFFFFU) | 0x800000U;
  return shift_rounding(significand, kMantissaBits - 9 - exponent);
}

std::uint32_t exponent_field(float value) noexcept {
  return (std::bit_cast<std::uint32_t>(value) & kMagnitudeMask) >> kMantissaBits;
}

float power_of_two(int exponent) noexcept {
  return std::bit_cast<float>(static_cast<std::uint32_t>(exponent + kBias) << kMantissaBits);
}

}  // namespace

std::uint8_t encode_float8(float value) noexcept {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  const std::uint32_t magnitude = bits & kMagnitudeMask;
  if (magnitude > kInfinityBits) return kFloat8Nan;
  std::uint32_t code = kMaxCode;
  if (magnitude < kMinNormalBits) {
    code = encode_subnormal(magnitude);
  } else if (magnitude < kMaxBits) {
    // A carry out of the mantissa counts the exponent up, as it should.
    code = shift_rounding(magnitude, kDroppedBits) - ((kBias - kFloat8Bias) << 3);
  }
  return static_cast<std::uint8_t>(code | ((bits >> 24U) & 0x80U));
}

float decode_float8(std::uint8_t bits) noexcept {
  const int exponent = (bits >> 3) & 0xF;
  const int mantissa = bits & 0x7;
  if ((bits & 0x7F) == kFloat8Nan) return std::bit_cast<float>(kFloat32Nan);
  const int significand = exponent == 0 ? mantissa : mantissa + 8;
  const float magnitude = std::ldexp(static_cast<float>(significand), std::max(exponent, 1) - kFloat8Bias - 3);
  return (bits & 0x80) == 0 ? magnitude : -magnitude;
}

float group_amax(std::span<const Bfloat16> group) noexcept {
  float amax = kMinGroupAmax;
  for (const Bfloat16 element : group) {
    const float magnitude = std::abs(to_float(element));
    if (magnitude > amax) amax = magnitude;  // false for NaN
  }
  return amax;
}

GroupScale scale_of(float amax, ScaleRounding rounding) noexcept {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  if (amax == kInfinity) return {.multiplier = 0.0F, .stored = kInfinity};
  const float stored = amax * kInverseOfMax;
  if (rounding == ScaleRounding::kNone) return {.multiplier = kFloat8Max / amax, .stored = stored};
  const bool is_power_of_two = (std::bit_cast<std::uint32_t>(stored) & 0x7FFFFFU) == 0;
  const int exponent = static_cast<int>(exponent_field(stored)) - kBias + (is_power_of_two ? 0 : 1);
  return {.multiplier = power_of_two(-exponent), .stored = power_of_two(exponent)};
}

void quantize_row(std::span<const Bfloat16> row, ScaleRounding rounding, std::span<std::uint8_t> values,
                  std::span<float> scales) noexcept {
  constexpr auto kGroup = static_cast<std::size_t>(kGroupChannels);
  for (std::size_t begin = 0; begin < row.size(); begin += kGroup) {
    const auto group = row.subspan(begin, std::min(kGroup, row.size() - begin));
    const GroupScale scale = scale_of(group_amax(group), rounding);
    scales[begin / kGroup] = scale.stored;
    for (std::size_t i = 0; i < group.size(); ++i) {
      values[begin + i] = encode_float8(to_float(group[i]) * scale.multiplier);
    }
  }
}

void pack_ue8m0(std::span<const float> scales, std::span<std::int32_t> packed) noexcept {
  for (std::size_t i = 0; i < packed.size(); ++i) {
    std::uint32_t word = 0;
    for (std::size_t j = 0; j < 4 && 4 * i + j < scales.size(); ++j) {
      word |= exponent_field(scales[4 * i + j]) << (8 * j);
    }
    packed[i] = static_cast<std::int32_t>(word);
  }
}

}  // namespace crossdock::codec
