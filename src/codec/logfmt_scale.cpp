#include "codec/logfmt_scale.hpp"

#include <algorithm>

#include "codec/exponential.hpp"

namespace crossdock::codec {

namespace {

constexpr std::uint16_t kMagnitudeMask = 0x7FFF;
constexpr std::uint16_t kOneBits = 0x3F80;
constexpr std::uint16_t kMinAmaxBits = 0x1080;  // 2^-94: kOctaves below it values are still normal

std::uint16_t magnitude_bits(Bfloat16 value) { return value.bits & kMagnitudeMask; }

float log2_of_bits(std::uint16_t magnitude) { return log2_of(to_float({magnitude})); }

}  // namespace

LogFmtExtremes logfmt_extremes(std::span<const Bfloat16> group) noexcept {
  LogFmtExtremes result{.amax = 0, .amin = kMagnitudeMask};
  for (const Bfloat16 element : group) {
    result.amax = std::max(result.amax, magnitude_bits(element));
    result.amin = std::min(result.amin, magnitude_bits(element));
  }
  return result;
}

bool logfmt_castable(LogFmtExtremes extremes) noexcept {
  return extremes.amin < extremes.amax && extremes.amax >= kMinAmaxBits && extremes.amax < kOneBits;
}

LogFmtScale::LogFmtScale(LogFmtExtremes extremes) noexcept {
  const float log_max = log2_of_bits(extremes.amax);
  log_min_ = std::max(log2_of_bits(extremes.amin), log_max - kOctaves);
  const float range = log_max - log_min_;
  step_ = range / kSteps;
  inverse_step_ = kSteps / range;
  // A magnitude takes code k from the arithmetic middle of the values of k - 1 and k on. In steps that is
  // log2((1 + 2^step) / 2) / step above k - 1, or 1/2 + step ln2 / 8 but for less than 5e-7.
  offset_ = std::fma(step_, -kEighthOfLn2, 1.5F);
}

std::uint32_t LogFmtScale::encode(Bfloat16 element) const noexcept {
  // Of zero the logarithm is -127, at least an octave below log_min_: its place is negative.
  const float place = std::fma(log2_of_bits(magnitude_bits(element)) - log_min_, inverse_step_, offset_);
  return static_cast<std::uint32_t>(std::max(place, 0.0F));
}

float LogFmtScale::decode(std::uint32_t code) const noexcept {
  if (code == 0) return 0.0F;
  return exp2_of(std::fma(static_cast<float>(code - 1), step_, log_min_));
}

}  // namespace crossdock::codec
