#include "crossdock/row_pattern.hpp"

#include <algorithm>
#include <bit>

#include "crossdock/bench_config.hpp"
#include "crossdock/random.hpp"

namespace crossdock::tool {

namespace {

constexpr std::size_t kOffsets = 4096;
constexpr int kMantissaBits = 7;

std::uint16_t make_element(Random& random, RowRange range) {
  constexpr std::uint32_t kExponents = 7;
  const std::uint32_t smallest_exponent = range == RowRange::kAroundOne ? 124 : 120;  // 1/8, 1/128
  const std::uint32_t sign = random.below(2);
  const std::uint32_t exponent = smallest_exponent + random.below(kExponents);
  return static_cast<std::uint16_t>(sign << 15U | exponent << kMantissaBits | random.below(1U << kMantissaBits));
}

/// Element i of the label that makes a row unlike all others: digits of rank, then of token, in base 2^bits.
std::uint32_t label(int rank, std::int64_t token, std::size_t i, unsigned bits) {
  const auto number = static_cast<std::uint64_t>(token) << 12U | static_cast<std::uint64_t>(rank);
  const auto shift = i * bits;
  return shift < 64 ? static_cast<std::uint32_t>(number >> shift) & ((1U << bits) - 1) : 0;
}
constexpr std::size_t kLabelElements = 8;

}  // namespace

RowPattern::RowPattern(std::int64_t hidden, std::uint64_t seed, RowRange range) : seed_(seed) {
  Random random(seed ^ 0x726F77U);
  block_.resize(static_cast<std::size_t>(hidden) + kOffsets);
  for (auto& element : block_) element = make_element(random, range);
}

std::span<const std::uint16_t> RowPattern::cut(int rank, std::int64_t token, std::size_t size) const {
  const auto row = static_cast<std::uint64_t>(token) << 12U | static_cast<std::uint64_t>(rank);
  return std::span(block_).subspan(Random::mix(row + seed_) % kOffsets, size);
}

void RowPattern::fill_bf16(int rank, std::int64_t token, std::span<Bfloat16> row) const {
  const auto source = cut(rank, token, row.size());
  for (std::size_t i = 0; i < row.size(); ++i) row[i].bits = source[i];
  for (std::size_t i = 0; i < std::min(row.size(), kLabelElements); ++i) {
    row[i].bits = static_cast<std::uint16_t>((row[i].bits & ~0x7FU) | label(rank, token, i, kMantissaBits));
  }
}

void RowPattern::fill_fp8(int rank, std::int64_t token, std::span<std::uint8_t> row) const {
  constexpr unsigned kLabelBits = 6;  // codes below 64 are finite
  const auto source = cut(rank, token, row.size());
  for (std::size_t i = 0; i < row.size(); ++i) {
    const unsigned magnitude = (source[i] & 0x3FU) | 0x20U;
    row[i] = static_cast<std::uint8_t>((static_cast<unsigned>(source[i]) >> 8U & 0x80U) | magnitude);
  }
  for (std::size_t i = 0; i < std::min(row.size(), kLabelElements); ++i) {
    row[i] = static_cast<std::uint8_t>(label(rank, token, i, kLabelBits));
  }
}

void RowPattern::fill_scales(int rank, std::int64_t token, std::span<float> scales) const {
  const auto source = cut(rank, token, scales.size());
  for (std::size_t i = 0; i < scales.size(); ++i) {
    scales[i] = 0.5F + static_cast<float>(source[i] & 0x7FU) * (1.5F / 128.0F);
  }
}

void dequantize(std::span<const std::uint8_t> row, std::span<const float> scales, std::span<Bfloat16> out) {
  constexpr float kExponentShift = 0x1p120F;  // from e4m3's bias of 7 to binary32's of 127
  const auto block = static_cast<std::size_t>(BenchConfig::kScaleBlock);
  for (std::size_t begin = 0; begin < row.size(); begin += block) {
    const float scale = scales[begin / block];
    for (std::size_t i = begin; i < std::min(begin + block, row.size()); ++i) {
      const auto code = static_cast<std::uint32_t>(row[i]);
      const auto bits = (code & 0x80U) << 24U | (code & 0x7FU) << 20U;
      out[i] = to_bfloat16(std::bit_cast<float>(bits) * kExponentShift * scale);
    }
  }
}

void mark_row(std::span<Bfloat16> row, int rank) {
  const auto mark = static_cast<std::uint16_t>(1 + rank % 127);
  for (auto& element : row) element.bits = static_cast<std::uint16_t>(element.bits ^ mark);
}

}  // namespace crossdock::tool
