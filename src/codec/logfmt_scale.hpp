// The codes of LogFMT-10: what a group of elements becomes. logfmt.hpp says how codes lie on the wire.
#pragma once

#include <cstdint>
#include <span>

#include "base/bfloat16.hpp"

namespace crossdock::codec {

/// The extremes of the bits without the sign, compared as integers: greater bits are a greater magnitude, and a NaN is
/// above infinity.
struct LogFmtExtremes {
  std::uint16_t amax = 0;
  std::uint16_t amin = 0;
};

/// REQUIRES: the group is not empty.
[[nodiscard]] LogFmtExtremes logfmt_extremes(std::span<const Bfloat16> group) noexcept;

/// Whether a group has codes: amin < amax and 2^-94 <= amax < 1. DeepEP's condition but for the lower bound, which
/// keeps all logarithms in the range of normal values.
[[nodiscard]] bool logfmt_castable(LogFmtExtremes extremes) noexcept;

class LogFmtScale {
 public:
  static constexpr int kMaxCode = 511;
  static constexpr float kSteps = kMaxCode - 1;  ///< from code 1 to the last
  static constexpr float kOctaves = 32.0F;       ///< the most that lie between them
  static constexpr float kEighthOfLn2 = 0x1.62e430p-4F;

  /// REQUIRES: logfmt_castable(extremes).
  explicit LogFmtScale(LogFmtExtremes extremes) noexcept;

  /// The code of a magnitude, 0 to kMaxCode; the sign is ignored. REQUIRES: amin <= |element| <= amax.
  [[nodiscard]] std::uint32_t encode(Bfloat16 element) const noexcept;
  /// The magnitude of a code; 0 is zero, 1 the least that is not, kMaxCode amax. REQUIRES: code <= kMaxCode.
  [[nodiscard]] float decode(std::uint32_t code) const noexcept;

 private:
  float log_min_;  ///< of code 1
  float step_;
  float inverse_step_;
  float offset_;
};

}  // namespace crossdock::codec
