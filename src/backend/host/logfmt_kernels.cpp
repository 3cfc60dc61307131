#include "backend/host/logfmt_kernels.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <cstring>

#include "codec/exponential.hpp"
#include "codec/logfmt.hpp"
#include "codec/logfmt_scale.hpp"

// Logarithms and sums need fused multiply-add in hardware, which the SSE targets have not; there the codec's plain code
// makes them, and only packing is done in vectors.
#include "backend/host/simd_targets.hpp"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "backend/host/logfmt_kernels.cpp"
#include <hwy/foreach_target.h>  // must come before highway.h
#include <hwy/highway.h>

#include "backend/host/bfloat16_vectors-inl.hpp"
#include "backend/host/logfmt_packs-inl.hpp"

HWY_BEFORE_NAMESPACE();
namespace crossdock::host::HWY_NAMESPACE {
namespace {

using codec::LogFmtExtremes;
using codec::LogFmtScale;

constexpr std::size_t kMaxChunkGroups = 1024 / kGroup;
constexpr std::size_t kMetaBytes = 4;  // of a group
static_assert(sizeof(LogFmtExtremes) == kMetaBytes && offsetof(LogFmtExtremes, amin) == 2);

/// What LogFmtScale holds, for each group of a chunk.
struct ChunkScales {
  float log_min[kMaxChunkGroups];
  float step[kMaxChunkGroups];
  float inverse_step[kMaxChunkGroups];
  float offset[kMaxChunkGroups];
};

/// The groups of a chunk; those that a short chunk has not are zero.
using ChunkGroups = std::array<LogFmtExtremes, kMaxChunkGroups>;

struct Chunk {
  std::size_t size = 0;
  std::size_t num_groups = 0;
  ChunkGroups groups{};
  bool is_cast = false;
  std::size_t bytes = 0;
};

/// REQUIRES: the meta block is written.
Chunk chunk_at(const std::byte* wire, std::size_t hidden, std::size_t begin) {
  Chunk chunk;
  const auto most = static_cast<std::size_t>(codec::logfmt_chunk_elements(static_cast<std::int64_t>(hidden)));
  chunk.size = std::min(most, hidden - begin);
  chunk.num_groups = (chunk.size + kGroup - 1) / kGroup;
  std::memcpy(chunk.groups.data(), wire + begin / kGroup * kMetaBytes, chunk.num_groups * kMetaBytes);
  const auto size = static_cast<std::int64_t>(chunk.size);
  chunk.is_cast = codec::logfmt_is_cast(size, {chunk.groups.data(), chunk.num_groups});
  chunk.bytes = static_cast<std::size_t>(codec::logfmt_chunk_bytes(size, chunk.is_cast));
  return chunk;
}

/// As codec::polynomial.
template <class D, std::size_t kCount>
HWY_INLINE hn::Vec<D> polynomial(D d, const std::array<float, kCount>& coefficients, hn::Vec<D> x) {
  auto sum = hn::Set(d, coefficients[kCount - 1]);
  for (std::size_t i = kCount - 1; i-- > 0;) sum = hn::MulAdd(sum, x, hn::Set(d, coefficients[i]));
  return sum;
}

// Integers up to 2^23 become float32, and float32 without fraction become integers, by way of the range in which the
// last bit of a float32 counts ones; that is exact and shorter than conversions, which look for what does not fit.
constexpr float kOnes = 0x1p23F;
constexpr std::uint32_t kOnesBits = 0x4B000000;

/// As codec::log2_of. Of `mantissa` bits 0 to 22 are used, of `exponent` bits 0 to 7.
template <class D>
HWY_INLINE hn::Vec<hn::RebindToFloat<D>> log2_of(D d, hn::Vec<D> mantissa, hn::Vec<D> exponent) {
  const hn::RebindToFloat<D> df;
  const auto exponent_bits = hn::Or(hn::And(exponent, hn::Set(d, 0xFFU)), hn::Set(d, kOnesBits));
  const auto e = hn::Sub(hn::BitCast(df, exponent_bits), hn::Set(df, kOnes + 127.0F));
  const auto mantissa_bits = hn::Or(hn::And(mantissa, hn::Set(d, 0x7FFFFFU)), hn::Set(d, 0x3F800000U));
  const auto u = hn::Sub(hn::BitCast(df, mantissa_bits), hn::Set(df, 1.0F));
  return hn::MulAdd(u, polynomial(df, codec::kLog2Coefficients, u), e);
}
/// Of the magnitudes of the two bfloat16 of a word.
template <class D>
HWY_INLINE hn::Vec<hn::RebindToFloat<D>> log2_of_low(D d, hn::Vec<D> word) {
  return log2_of(d, hn::ShiftLeft<16>(word), hn::ShiftRight<7>(word));
}
template <class D>
HWY_INLINE hn::Vec<hn::RebindToFloat<D>> log2_of_high(D d, hn::Vec<D> word) {
  return log2_of(d, hn::And(word, hn::Set(d, 0x7F0000U)), hn::ShiftRight<23>(word));
}

/// As codec::exp2_of.
HWY_INLINE Floats exp2_of(Floats x) {
  const FloatTag d;
  const auto integer = hn::Floor(hn::Add(x, hn::Set(d, 0.5F)));
  const auto f = hn::Sub(x, integer);
  const auto fraction = hn::MulAdd(f, polynomial(d, codec::kExp2Coefficients, f), hn::Set(d, 1.0F));
  const auto exponent = hn::BitCast(WordTag(), hn::Add(integer, hn::Set(d, kOnes + 127.0F)));
  return hn::Mul(fraction, hn::BitCast(d, hn::ShiftLeft<23>(exponent)));
}

/// As the constructor of LogFmtScale, several groups at a time. Those without codes get numbers that mean nothing.
[[maybe_unused]] void make_scales(const ChunkGroups& groups, ChunkScales& scales) {
  const hn::CappedTag<std::uint32_t, kMaxChunkGroups> d;
  const hn::RebindToFloat<decltype(d)> df;
  for (std::size_t g = 0; g < kMaxChunkGroups; g += hn::Lanes(d)) {
    const auto word = hn::LoadU(d, reinterpret_cast<const std::uint32_t*>(groups.data() + g));
    const auto log_max = log2_of_low(d, word);
    const auto log_of_amin = log2_of_high(d, word);
    const auto log_min = hn::Max(log_of_amin, hn::Sub(log_max, hn::Set(df, LogFmtScale::kOctaves)));
    const auto range = hn::Sub(log_max, log_min);
    const auto steps = hn::Set(df, LogFmtScale::kSteps);
    const auto step = hn::Div(range, steps);
    hn::StoreU(log_min, df, scales.log_min + g);
    hn::StoreU(step, df, scales.step + g);
    hn::StoreU(hn::Div(steps, range), df, scales.inverse_step + g);
    hn::StoreU(hn::MulAdd(step, hn::Set(df, -LogFmtScale::kEighthOfLn2), hn::Set(df, 1.5F)), df, scales.offset + g);
  }
}

/// As codec::logfmt_extremes. REQUIRES: count > 0.
LogFmtExtremes extremes_of(const Bfloat16* group, std::size_t count) {
  if (count < kGroup) return codec::logfmt_extremes({group, count});
  const hn::ScalableTag<std::uint16_t> d;
  const auto* from = reinterpret_cast<const std::uint16_t*>(group);
  const auto magnitude = hn::Set(d, std::uint16_t{0x7FFF});
  auto most = hn::Zero(d);
  auto least = magnitude;
  for (std::size_t at = 0; at < kGroup; at += hn::Lanes(d)) {
    const auto bits = hn::And(hn::LoadU(d, from + at), magnitude);
    most = hn::Max(most, bits);
    least = hn::Min(least, bits);
  }
  return {.amax = hn::GetLane(hn::MaxOfLanes(d, most)), .amin = hn::GetLane(hn::MinOfLanes(d, least))};
}

void write_meta(const Bfloat16* row, std::size_t hidden, std::byte* wire) {
  const auto bytes = static_cast<std::size_t>(codec::logfmt_meta_bytes(static_cast<std::int64_t>(hidden)));
  std::size_t at = 0;
  for (std::size_t begin = 0; begin < hidden; begin += kGroup, at += kMetaBytes) {
    const LogFmtExtremes extremes = extremes_of(row + begin, std::min(kGroup, hidden - begin));
    std::memcpy(wire + at, &extremes, kMetaBytes);
  }
  std::memset(wire + at, 0, bytes - at);
}

/// As LogFmtScale::encode for every element; signs are left out.
void encode_group(const Bfloat16* group, const Chunk& chunk, const ChunkScales& scales, std::size_t g,
                  GroupCodes& codes) {
  if constexpr (!kHasFma) {
    const LogFmtScale scale(chunk.groups[g]);
    for (std::size_t i = 0; i < kGroup; ++i) codes.of[i] = static_cast<std::uint16_t>(scale.encode(group[i]));
    return;
  }
  const WordTag d;
  const FloatTag df;
  const auto log_min = hn::Set(df, scales.log_min[g]);
  const auto inverse_step = hn::Set(df, scales.inverse_step[g]);
  const auto offset = hn::Set(df, scales.offset[g]);
  // In the low half of the words.
  const auto code_of = [&](Floats log) HWY_ATTR {
    const auto place = hn::Max(hn::MulAdd(hn::Sub(log, log_min), inverse_step, offset), hn::Zero(df));
    return hn::BitCast(d, hn::Add(hn::Floor(place), hn::Set(df, kOnes)));
  };
  for (std::size_t at = 0; at < kGroup; at += 2 * hn::Lanes(d)) {
    const auto word = hn::LoadU(d, reinterpret_cast<const std::uint32_t*>(group + at));
    const auto low = hn::And(code_of(log2_of_low(d, word)), hn::Set(d, 0xFFFFU));
    const auto high = hn::ShiftLeft<16>(code_of(log2_of_high(d, word)));
    hn::Store(hn::Or(low, high), d, reinterpret_cast<std::uint32_t*>(codes.of + at));
  }
}

void encode_chunk(const Bfloat16* elements, const Chunk& chunk, std::byte* out) {
  ChunkScales scales;
  GroupCodes codes;
  if constexpr (kHasFma) make_scales(chunk.groups, scales);
  for (std::size_t g = 0; g < chunk.num_groups; ++g, out += kGroupBytes) {
    const Bfloat16* group = elements + g * kGroup;
    const std::size_t count = std::min(kGroup, chunk.size - g * kGroup);
    if (count == kGroup) {
      encode_group(group, chunk, scales, g, codes);
      pack_group(codes, group, out);
      continue;
    }
    std::array<Bfloat16, kGroup> padded{};  // zeros have code 0 and a clear sign
    std::array<std::byte, kGroupBytes> packs;
    std::copy_n(group, count, padded.begin());
    encode_group(padded.data(), chunk, scales, g, codes);
    pack_group(codes, padded.data(), packs.data());
    std::memcpy(out, packs.data(), (count + kPack - 1) / kPack * kPackBytes);
  }
}

std::size_t encode_logfmt_row(const Bfloat16* row, std::size_t hidden, std::byte* wire) {
  write_meta(row, hidden, wire);
  std::byte* out = wire + codec::logfmt_meta_bytes(static_cast<std::int64_t>(hidden));
  for (std::size_t begin = 0; begin < hidden;) {
    const Chunk chunk = chunk_at(wire, hidden, begin);
    if (chunk.is_cast) {
      encode_chunk(row + begin, chunk, out);
    } else {
      std::memcpy(out, row + begin, chunk.bytes);
    }
    out += chunk.bytes;
    begin += chunk.size;
  }
  return static_cast<std::size_t>(out - wire);
}

// Sums of a group lie as the loops below make them: with fused multiply-add for each vector of words the sums of the
// low halves, then those of the high halves; without it in order.

HWY_INLINE void add_halves(Floats low, Floats high, float weight, float* sums) {
  const FloatTag d;
  const auto factor = hn::Set(d, weight);
  hn::StoreU(hn::MulAdd(low, factor, hn::LoadU(d, sums)), d, sums);
  hn::StoreU(hn::MulAdd(high, factor, hn::LoadU(d, sums + hn::Lanes(d))), d, sums + hn::Lanes(d));
}

/// Adds what LogFmtScale::decode gives.
void add_cast_group(const GroupCodes& codes, const Chunk& chunk, const ChunkScales& scales, std::size_t g, float weight,
                    float* sums) {
  if constexpr (!kHasFma) {
    const LogFmtScale scale(chunk.groups[g]);
    for (std::size_t i = 0; i < kGroup; ++i) {
      const float magnitude = scale.decode(codes.of[i] & 0x7FFFU);
      sums[i] = std::fma((codes.of[i] & 0x8000U) == 0 ? magnitude : -magnitude, weight, sums[i]);
    }
    return;
  }
  const WordTag d;
  const FloatTag df;
  const auto log_min = hn::Set(df, scales.log_min[g]);
  const auto step = hn::Set(df, scales.step[g]);
  const auto sign_bit = hn::Set(d, 0x80000000U);
  const auto value_of = [&](Words code, Words sign) HWY_ATTR {
    const auto place = hn::Sub(hn::BitCast(df, hn::Or(code, hn::Set(d, kOnesBits))), hn::Set(df, kOnes + 1.0F));
    const auto magnitude = exp2_of(hn::MulAdd(place, step, log_min));
    const auto is_zero = hn::Lt(place, hn::Zero(df));
    return hn::Or(hn::IfThenZeroElse(is_zero, magnitude), hn::BitCast(df, sign));
  };
  for (std::size_t at = 0; at < kGroup; at += 2 * hn::Lanes(d)) {
    const auto word = hn::Load(d, reinterpret_cast<const std::uint32_t*>(codes.of + at));
    const auto low = value_of(hn::And(word, hn::Set(d, 0x1FFU)), hn::And(hn::ShiftLeft<16>(word), sign_bit));
    const auto high = value_of(hn::And(hn::ShiftRight<16>(word), hn::Set(d, 0x1FFU)), hn::And(word, sign_bit));
    add_halves(low, high, weight, sums + at);
  }
}

void add_raw_group(const std::byte* group, float weight, float* sums) {
  if constexpr (!kHasFma) {
    for (std::size_t i = 0; i < kGroup; ++i) {
      Bfloat16 value;
      std::memcpy(&value, group + i * sizeof(value), sizeof(value));
      sums[i] = std::fma(to_float(value), weight, sums[i]);
    }
    return;
  }
  const WordTag d;
  for (std::size_t at = 0; at < kGroup; at += 2 * hn::Lanes(d)) {
    const auto word = hn::LoadU(d, reinterpret_cast<const std::uint32_t*>(group + at * sizeof(Bfloat16)));
    add_halves(low_half(word), high_half(word), weight, sums + at);
  }
}

void round_group(const float* sums, std::byte* out) {
  if constexpr (!kHasFma) {
    for (std::size_t i = 0; i < kGroup; ++i) {
      const Bfloat16 rounded = to_bfloat16(sums[i]);
      std::memcpy(out + i * sizeof(rounded), &rounded, sizeof(rounded));
    }
    return;
  }
  const FloatTag d;
  for (std::size_t at = 0; at < kGroup; at += 2 * hn::Lanes(d)) {
    const auto word = round_halves(hn::LoadU(d, sums + at), hn::LoadU(d, sums + at + hn::Lanes(d)));
    hn::StoreU(word, WordTag(), reinterpret_cast<std::uint32_t*>(out + at * sizeof(Bfloat16)));
  }
}

void add_cast_chunk(const std::byte* in, const Chunk& chunk, float weight, float* sums) {
  ChunkScales scales;
  GroupCodes codes[kMaxChunkGroups];  // all of them first: what was just stored in pieces is slow to read as a whole
  if constexpr (kHasFma) make_scales(chunk.groups, scales);
  const std::size_t whole_groups = chunk.size / kGroup;
  for (std::size_t g = 0; g < whole_groups; ++g) unpack_group(in + g * kGroupBytes, codes[g]);
  if (whole_groups < chunk.num_groups) {
    std::array<std::byte, kGroupBytes> padded{};
    std::memcpy(padded.data(), in + whole_groups * kGroupBytes, chunk.bytes - whole_groups * kGroupBytes);
    unpack_group(padded.data(), codes[whole_groups]);
  }
  for (std::size_t g = 0; g < chunk.num_groups; ++g) {
    add_cast_group(codes[g], chunk, scales, g, weight, sums + g * kGroup);
  }
}

void add_raw_chunk(const std::byte* in, const Chunk& chunk, float weight, float* sums) {
  constexpr std::size_t kRawBytes = kGroup * sizeof(Bfloat16);
  const std::size_t whole_groups = chunk.size / kGroup;
  for (std::size_t g = 0; g < whole_groups; ++g) add_raw_group(in + g * kRawBytes, weight, sums + g * kGroup);
  if (whole_groups == chunk.num_groups) return;
  std::array<std::byte, kRawBytes> padded{};
  std::memcpy(padded.data(), in + whole_groups * kRawBytes, chunk.bytes - whole_groups * kRawBytes);
  add_raw_group(padded.data(), weight, sums + whole_groups * kGroup);
}

void add_row(const std::byte* wire, std::size_t hidden, float weight, float* sums) {
  const std::byte* in = wire + codec::logfmt_meta_bytes(static_cast<std::int64_t>(hidden));
  for (std::size_t begin = 0; begin < hidden;) {
    const Chunk chunk = chunk_at(wire, hidden, begin);
    if (chunk.is_cast) {
      add_cast_chunk(in, chunk, weight, sums + begin);
    } else {
      add_raw_chunk(in, chunk, weight, sums + begin);
    }
    in += chunk.bytes;
    begin += chunk.size;
  }
}

void sum_weighted_logfmt_rows(std::span<const WeightedRow> rows, std::size_t hidden, std::span<float> sums,
                              std::byte* out) {
  std::ranges::fill(sums, 0.0F);
  for (const WeightedRow& addend : rows) add_row(addend.row, hidden, addend.weight, sums.data());
  const std::size_t whole = hidden / kGroup * kGroup;
  for (std::size_t begin = 0; begin < whole; begin += kGroup) {
    round_group(sums.data() + begin, out + begin * sizeof(Bfloat16));
  }
  if (whole == hidden) return;
  std::array<std::byte, kGroup * sizeof(Bfloat16)> padded;
  round_group(sums.data() + whole, padded.data());
  std::memcpy(out + whole * sizeof(Bfloat16), padded.data(), (hidden - whole) * sizeof(Bfloat16));
}

}  // namespace
}  // namespace crossdock::host::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE

namespace crossdock::host {

namespace {

HWY_EXPORT(encode_logfmt_row);
HWY_EXPORT(sum_weighted_logfmt_rows);

}  // namespace

std::size_t encode_logfmt_row(const Bfloat16* row, std::size_t hidden, std::byte* wire) {
  return HWY_DYNAMIC_DISPATCH(encode_logfmt_row)(row, hidden, wire);
}

std::size_t logfmt_sum_elements(std::size_t hidden) noexcept {
  constexpr auto kGroup = static_cast<std::size_t>(codec::kLogFmtGroupChannels);
  return (hidden + kGroup - 1) / kGroup * kGroup;
}

void sum_weighted_logfmt_rows(std::span<const WeightedRow> rows, std::size_t hidden, std::span<float> sums,
                              std::byte* out) {
  HWY_DYNAMIC_DISPATCH(sum_weighted_logfmt_rows)(rows, hidden, sums.first(logfmt_sum_elements(hidden)), out);
}

}  // namespace crossdock::host
#endif  // HWY_ONCE
