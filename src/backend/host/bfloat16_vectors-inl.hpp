// bfloat16 in vectors of 32-bit words, two to a word. For files that Highway compiles once for each instruction set: it
// is read again each time, which is what the toggled guard is for.
#if defined(CROSSDOCK_BFLOAT16_VECTORS_INL_HPP) == defined(HWY_TARGET_TOGGLE)
#ifdef CROSSDOCK_BFLOAT16_VECTORS_INL_HPP
#undef CROSSDOCK_BFLOAT16_VECTORS_INL_HPP
#else
#define CROSSDOCK_BFLOAT16_VECTORS_INL_HPP
#endif

#include <hwy/highway.h>

#include <cstdint>

#include "base/bfloat16.hpp"

HWY_BEFORE_NAMESPACE();
namespace crossdock::host::HWY_NAMESPACE {
namespace {

namespace hn = hwy::HWY_NAMESPACE;

using WordTag = hn::ScalableTag<std::uint32_t>;
using FloatTag = hn::ScalableTag<float>;
using Words = hn::Vec<WordTag>;
using Floats = hn::Vec<FloatTag>;

/// Whether hn::MulAdd is one rounding, as std::fma is.
#if defined(__x86_64__)
constexpr bool kHasFma = HWY_TARGET <= HWY_AVX2;  // better targets have lower numbers
#else
constexpr bool kHasFma = HWY_TARGET != HWY_SCALAR && HWY_TARGET != HWY_EMU128;
#endif

/// The two float32 halves of words that hold two bfloat16 each.
HWY_INLINE Floats low_half(Words word) { return hn::BitCast(FloatTag(), hn::ShiftLeft<16>(word)); }
HWY_INLINE Floats high_half(Words word) {
  return hn::BitCast(FloatTag(), hn::And(word, hn::Set(WordTag(), 0xFFFF0000U)));
}

/// As to_bfloat16 in base/bfloat16.hpp; the result is in the high half.
HWY_INLINE Words round_to_bfloat16(Floats value) {
  const WordTag d;
  const auto bits = hn::BitCast(d, value);
  const auto lowest_kept = hn::And(hn::ShiftRight<16>(bits), hn::Set(d, 1U));
  const auto rounded = hn::Add(bits, hn::Add(hn::Set(d, 0x7FFFU), lowest_kept));
  const auto is_nan = hn::RebindMask(d, hn::IsNaN(value));
  return hn::IfThenElse(is_nan, hn::Set(d, std::uint32_t{kBfloat16Nan} << 16U), rounded);
}

/// Words whose two bfloat16 halves are `low` and `high`, rounded.
HWY_INLINE Words round_halves(Floats low, Floats high) {
  return hn::Or(hn::ShiftRight<16>(round_to_bfloat16(low)),
                hn::And(round_to_bfloat16(high), hn::Set(WordTag(), 0xFFFF0000U)));
}

}  // namespace
}  // namespace crossdock::host::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
