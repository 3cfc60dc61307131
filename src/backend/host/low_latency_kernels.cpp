#include "backend/host/low_latency_kernels.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstring>

// The sums need fused multiply-add in hardware, which the SSE targets have not; there the plain loop runs.
#include "backend/host/simd_targets.hpp"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "backend/host/low_latency_kernels.cpp"
#include <hwy/cache_control.h>
#include <hwy/foreach_target.h>  // must come before highway.h
#include <hwy/highway.h>

#include "backend/host/bfloat16_vectors-inl.hpp"

HWY_BEFORE_NAMESPACE();
namespace crossdock::host::HWY_NAMESPACE {
namespace {

constexpr std::uint16_t kBfloat16Infinity = 0x7F80;
constexpr std::size_t kGroupsAtOnce = 8;

using ByteTag = hn::ScalableTag<std::uint8_t>;

template <Stores kStores>
void multicast_some(const std::byte* source, std::size_t bytes, std::span<std::byte* const> destinations) {
  const ByteTag d;
  const std::size_t lanes = hn::Lanes(d);
  std::size_t at = 0;
  for (; at + lanes <= bytes; at += lanes) {
    const auto v = hn::LoadU(d, reinterpret_cast<const std::uint8_t*>(source) + at);
    for (std::byte* destination : destinations) {
      auto* to = reinterpret_cast<std::uint8_t*>(destination) + at;
      if constexpr (kStores == Stores::kStreaming) {
        hn::Stream(v, d, to);
      } else {
        hn::StoreU(v, d, to);
      }
    }
  }
  if (at == bytes) return;
  for (std::byte* destination : destinations) std::memcpy(destination + at, source + at, bytes - at);
}

void multicast_row(const std::byte* source, std::size_t bytes, std::span<std::byte* const> destinations,
                   Stores stores) {
  constexpr std::size_t kMaxFanout = 8;
  const std::size_t lanes = hn::Lanes(ByteTag());
  const bool is_aligned = bytes % lanes == 0 && std::ranges::all_of(destinations, [lanes](const std::byte* p) {
                            return reinterpret_cast<std::uintptr_t>(p) % lanes == 0;
                          });
  for (std::size_t first = 0; first < destinations.size(); first += kMaxFanout) {
    const auto some = destinations.subspan(first, std::min(kMaxFanout, destinations.size() - first));
    if (stores == Stores::kStreaming && is_aligned) {
      multicast_some<Stores::kStreaming>(source, bytes, some);
    } else {
      multicast_some<Stores::kCached>(source, bytes, some);
    }
  }
}

/// The largest magnitude of a group as bits of bfloat16; NaNs and infinities are 0x7F80 and above.
std::uint16_t largest_magnitude(const Bfloat16* group, std::size_t count) {
  const hn::ScalableTag<std::uint16_t> d;
  const std::size_t lanes = hn::Lanes(d);
  auto most = hn::Zero(d);
  std::size_t at = 0;
  for (; at + lanes <= count; at += lanes) {
    const auto bits = hn::LoadU(d, reinterpret_cast<const std::uint16_t*>(group + at));
    most = hn::Max(most, hn::And(bits, hn::Set(d, std::uint16_t{0x7FFF})));
  }
  auto result = hn::GetLane(hn::MaxOfLanes(d, most));
  for (; at < count; ++at) result = std::max(result, static_cast<std::uint16_t>(group[at].bits & 0x7FFFU));
  return result;
}

/// As codec::encode_float8 for products that are finite, not negative and, once rounded to E4M3, at most 448.
HWY_INLINE Words encode_finite(Floats product) {
  const WordTag d;
  const FloatTag df;
  const auto bits = hn::BitCast(d, product);
  // Normal results: round at bit 20 and move the exponent's bias from 127 to 7.
  const auto lowest_kept = hn::And(hn::ShiftRight<20>(bits), hn::Set(d, 1U));
  const auto normal = hn::ShiftRight<20>(hn::Add(hn::Add(bits, hn::Set(d, 0x7FFFFU - (120U << 23U))), lowest_kept));
  // Subnormal results: below 2^-6 the step is 2^-9, which is that of float32 around 2^14; adding rounds to it.
  const auto shifted = hn::BitCast(d, hn::Add(product, hn::Set(df, 16384.0F)));
  const auto subnormal = hn::Sub(shifted, hn::Set(d, 0x46800000U));
  return hn::IfThenElse(hn::RebindMask(d, hn::Lt(product, hn::Set(df, 0x1p-6F))), subnormal, normal);
}

/// REQUIRES: no NaN, no infinity; the multiplier is that of the group's amax or smaller.
void quantize_finite_group(const Bfloat16* group, std::size_t count, float multiplier, std::uint8_t* values) {
  const WordTag d;
  const hn::Rebind<std::uint16_t, WordTag> d16;
  const std::size_t lanes = hn::Lanes(d);
  const auto factor = hn::Set(FloatTag(), multiplier);
  std::size_t at = 0;
  for (; at + 2 * lanes <= count; at += 2 * lanes) {
    const auto word = hn::LoadU(d, reinterpret_cast<const std::uint32_t*>(group + at));
    const auto magnitudes = hn::And(word, hn::Set(d, 0x7FFF7FFFU));
    const auto low = encode_finite(hn::Mul(low_half(magnitudes), factor));
    const auto high = encode_finite(hn::Mul(high_half(magnitudes), factor));
    const auto signs = hn::Or(hn::And(hn::ShiftRight<8>(word), hn::Set(d, 0x80U)),
                              hn::And(hn::ShiftRight<16>(word), hn::Set(d, 0x8000U)));
    const auto pair = hn::Or(hn::Or(low, hn::ShiftLeft<8>(high)), signs);
    hn::StoreU(hn::TruncateTo(d16, pair), d16, reinterpret_cast<std::uint16_t*>(values + at));
  }
  for (; at < count; ++at) values[at] = codec::encode_float8(to_float(group[at]) * multiplier);
}

/// Consecutive groups of a row, the last of which may be short. Looking at several before their scales are needed hides
/// how long a maximum and a division take.
void quantize_groups(std::span<const Bfloat16> groups, codec::ScaleRounding rounding, std::uint8_t* values,
                     float* scales) {
  constexpr auto kGroup = static_cast<std::size_t>(codec::kGroupChannels);
  std::array<codec::GroupScale, kGroupsAtOnce> scale;
  std::array<std::uint16_t, kGroupsAtOnce> largest;
  const std::size_t count = (groups.size() + kGroup - 1) / kGroup;
  const auto group = [&](std::size_t g) {
    return groups.subspan(g * kGroup, std::min(kGroup, groups.size() - g * kGroup));
  };
  for (std::size_t g = 0; g < count; ++g) largest[g] = largest_magnitude(group(g).data(), group(g).size());
  for (std::size_t g = 0; g < count; ++g) {
    scale[g] = codec::scale_of(std::max(to_float(Bfloat16{largest[g]}), codec::kMinGroupAmax), rounding);
  }
  for (std::size_t g = 0; g < count; ++g) {
    std::uint8_t* const to = values + g * kGroup;
    if (largest[g] >= kBfloat16Infinity) {  // rare, and the definition knows all about it
      codec::quantize_row(group(g), rounding, {to, group(g).size()}, {scales + g, 1});
    } else {
      quantize_finite_group(group(g).data(), group(g).size(), scale[g].multiplier, to);
      scales[g] = scale[g].stored;
    }
  }
}

void quantize_row(const Bfloat16* row, std::size_t hidden, codec::ScaleRounding rounding, std::uint8_t* values,
                  float* scales) {
  constexpr std::size_t kElements = kGroupsAtOnce * static_cast<std::size_t>(codec::kGroupChannels);
  for (std::size_t begin = 0; begin < hidden; begin += kElements) {
    quantize_groups({row + begin, std::min(kElements, hidden - begin)}, rounding, values + begin,
                    scales + begin / static_cast<std::size_t>(codec::kGroupChannels));
  }
}

void sum_weighted_rows(std::span<const WeightedRow> rows, std::size_t hidden, std::byte* out) {
  const WordTag d;
  const FloatTag df;
  // More at once is slower: rows that are a multiple of 4 KiB apart share sets of the first cache.
  constexpr std::size_t kUnroll = 2;
  const std::size_t lanes = hn::Lanes(d);
  const std::size_t bytes = hidden * sizeof(Bfloat16);
  std::size_t at = 0;
  for (; kHasFma && at + kUnroll * lanes * sizeof(std::uint32_t) <= bytes;
       at += kUnroll * lanes * sizeof(std::uint32_t)) {
    Floats low[kUnroll];
    Floats high[kUnroll];
    for (std::size_t u = 0; u < kUnroll; ++u) low[u] = high[u] = hn::Zero(df);
    for (const WeightedRow& addend : rows) {
      const auto weight = hn::Set(df, addend.weight);
      const auto* from = reinterpret_cast<const std::uint32_t*>(addend.row + at);
      for (std::size_t u = 0; u < kUnroll; ++u) {
        const auto word = hn::LoadU(d, from + u * lanes);
        low[u] = hn::MulAdd(low_half(word), weight, low[u]);
        high[u] = hn::MulAdd(high_half(word), weight, high[u]);
      }
    }
    for (std::size_t u = 0; u < kUnroll; ++u) {
      hn::StoreU(round_halves(low[u], high[u]), d, reinterpret_cast<std::uint32_t*>(out + at) + u * lanes);
    }
  }
  for (; at < bytes; at += sizeof(Bfloat16)) {
    float sum = 0.0F;
    for (const WeightedRow& addend : rows) {
      Bfloat16 value;
      std::memcpy(&value, addend.row + at, sizeof(value));
      sum = std::fma(to_float(value), addend.weight, sum);
    }
    const Bfloat16 rounded = to_bfloat16(sum);
    std::memcpy(out + at, &rounded, sizeof(rounded));
  }
}

}  // namespace
}  // namespace crossdock::host::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE

namespace crossdock::host {

namespace {

HWY_EXPORT(multicast_row);
HWY_EXPORT(quantize_row);
HWY_EXPORT(sum_weighted_rows);

}  // namespace

void multicast_row(const std::byte* source, std::size_t bytes, std::span<std::byte* const> destinations,
                   Stores stores) {
  HWY_DYNAMIC_DISPATCH(multicast_row)(source, bytes, destinations, stores);
}

void copy_bytes(const std::byte* source, std::size_t bytes, std::byte* destination, Stores stores) {
  multicast_row(source, bytes, {&destination, 1}, stores);
}

void flush_streaming_stores() { hwy::FlushStream(); }

void quantize_row(const Bfloat16* row, std::size_t hidden, codec::ScaleRounding rounding, std::uint8_t* values,
                  float* scales) {
  HWY_DYNAMIC_DISPATCH(quantize_row)(row, hidden, rounding, values, scales);
}

void sum_weighted_rows(std::span<const WeightedRow> rows, std::size_t hidden, std::byte* out) {
  HWY_DYNAMIC_DISPATCH(sum_weighted_rows)(rows, hidden, out);
}

}  // namespace crossdock::host
#endif  // HWY_ONCE
