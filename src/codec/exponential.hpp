// log2 and exp2 as fixed sequences of float32 operations, so that every machine with IEEE arithmetic gets the same
// bits. The library functions of C++ and CUDA differ in their last digits. docs/codecs.md states the error bounds.
#pragma once

#include <array>
#include <bit>
#include <cmath>
#include <cstdint>
#include <span>

namespace crossdock::codec {

/// log2(1 + u) is about u * sum of kLog2Coefficients[i] u^i for u in [0, 1): log2(1 + u) / u interpolated at the seven
/// Chebyshev nodes of that interval, coefficients rounded to float32.
inline constexpr std::array<float, 7> kLog2Coefficients = {
    0x1.715454p+0F, -0x1.7139ccp-1F, 0x1.e8f4cep-2F, -0x1.5a7f8ep-2F, 0x1.b627dcp-3F, -0x1.839766p-4F, 0x1.47f3eap-6F};
/// 2^f is about 1 + f * sum of kExp2Coefficients[i] f^i for f in [-1/2, 1/2]: (2^f - 1) / f interpolated likewise.
inline constexpr std::array<float, 5> kExp2Coefficients = {0x1.62e430p-1F, 0x1.ebfa4cp-3F, 0x1.c6afeep-5F,
                                                           0x1.3cbf60p-7F, 0x1.5ec866p-10F};

/// Horner's rule, one fused operation for each coefficient after the last.
[[nodiscard]] inline float polynomial(std::span<const float> coefficients, float x) noexcept {
  float sum = coefficients.back();
  for (std::size_t i = coefficients.size() - 1; i-- > 0;) sum = std::fma(sum, x, coefficients[i]);
  return sum;
}

/// log2 of a normal value; log2(2^n) is n. Zero and subnormal values give something in [-127, -126).
/// REQUIRES: value is finite and its sign is clear.
[[nodiscard]] inline float log2_of(float value) noexcept {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  const float exponent = static_cast<float>(static_cast<int>(bits >> 23U) - 127);
  const float u = std::bit_cast<float>((bits & 0x7FFFFFU) | 0x3F800000U) - 1.0F;
  return std::fma(u, polynomial(kLog2Coefficients, u), exponent);
}

/// 2^x; for integral x exact. REQUIRES: -126 <= x < 127.
[[nodiscard]] inline float exp2_of(float x) noexcept {
  const float integer = std::floor(x + 0.5F);
  const float f = x - integer;
  const float fraction = std::fma(f, polynomial(kExp2Coefficients, f), 1.0F);
  const auto scale = static_cast<std::uint32_t>(static_cast<int>(integer) + 127) << 23U;
  return fraction * std::bit_cast<float>(scale);
}

}  // namespace crossdock::codec
