// FP8 as low-latency dispatch sends it: OCP E4M3 values and one scale for each 128 channels. Plain code that is the
// definition (docs/codecs.md says it in words); faster versions, on any processor, equal it bit for bit.
#pragma once

#include <cstdint>
#include <span>

#include "base/bfloat16.hpp"

namespace crossdock::codec {

inline constexpr float kFloat8Max = 448.0F;
/// What every NaN becomes, whatever its sign.
inline constexpr std::uint8_t kFloat8Nan = 0x7F;

/// E4M3 ("fn"): nearest, ties to even, straight from float32; subnormals kept. Magnitudes above 448, infinities too,
/// give +-448 (0x7E, 0xFE); every NaN gives kFloat8Nan; zeros keep their sign.
[[nodiscard]] std::uint8_t encode_float8(float value) noexcept;
/// Exact. 0x7F and 0xFF give the quiet NaN kFloat32Nan.
[[nodiscard]] float decode_float8(std::uint8_t bits) noexcept;

/// Channels that share a scale. The last group of a row is short if hidden is not a multiple.
inline constexpr std::int64_t kGroupChannels = 128;
/// Scales of a row. REQUIRES: hidden >= 0.
[[nodiscard]] constexpr std::int64_t num_groups(std::int64_t hidden) noexcept {
  return hidden / kGroupChannels + (hidden % kGroupChannels == 0 ? 0 : 1);
}

enum class ScaleRounding : std::uint8_t {
  kNone,        ///< 448 / amax
  kPowerOfTwo,  ///< the largest power of two that is not larger
};

/// amax of a group is at least this.
inline constexpr float kMinGroupAmax = 1e-4F;

/// The largest magnitude of a group, NaNs left out, and at least kMinGroupAmax. Infinity if there is one.
[[nodiscard]] float group_amax(std::span<const Bfloat16> group) noexcept;

struct GroupScale {
  float multiplier;  ///< what values are multiplied with before encode_float8; 0 if amax is infinite
  float stored;      ///< what receivers multiply with; infinity if amax is infinite
};
/// REQUIRES: amax is a result of group_amax.
[[nodiscard]] GroupScale scale_of(float amax, ScaleRounding rounding) noexcept;

/// One row. `values` has as many elements as `row`, `scales` num_groups(row.size()), of which it gets
/// GroupScale::stored. A NaN becomes kFloat8Nan and leaves its neighbours alone. An infinity becomes kFloat8Nan too,
/// its group's finite values become zeros and the stored scale infinity, so that the whole group decodes to NaN.
void quantize_row(std::span<const Bfloat16> row, ScaleRounding rounding, std::span<std::uint8_t> values,
                  std::span<float> scales) noexcept;

/// int32s that hold the UE8M0 scales of a row. REQUIRES: groups >= 0.
[[nodiscard]] constexpr std::int64_t num_packed_scales(std::int64_t groups) noexcept {
  return groups / 4 + (groups % 4 == 0 ? 0 : 1);
}
/// UE8M0: the float32 exponent fields of `scales`. Bits 8j to 8j + 7 of packed[i] are group 4i + j; 0 where there is
/// none. REQUIRES: scales are powers of two or infinity (255); packed.size() is num_packed_scales(scales.size()).
void pack_ue8m0(std::span<const float> scales, std::span<std::int32_t> packed) noexcept;

}  // namespace crossdock::codec
