// The rows that a benchmark moves: cheap to make, the same everywhere, and different for every rank and token.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "base/bfloat16.hpp"

namespace crossdock::tool {

/// The magnitudes of elements of bfloat16.
enum class RowRange : unsigned char {
  kAroundOne,  ///< 1/8 to 16
  kBelowOne,   ///< 1/128 to 1, 1 excluded: LogFMT casts such rows
};

/// Rows cut out of one random block at a place that depends on rank and token; the first elements spell rank and token.
class RowPattern {
 public:
  RowPattern(std::int64_t hidden, std::uint64_t seed, RowRange range = RowRange::kAroundOne);

  /// Values of the range. `row` has `hidden` elements.
  void fill_bf16(int rank, std::int64_t token, std::span<Bfloat16> row) const;
  /// Codes of float8_e4m3 without NaN. `row` has `hidden` elements.
  void fill_fp8(int rank, std::int64_t token, std::span<std::uint8_t> row) const;
  /// Scales from 1/2 to 2, one per 128 channels.
  void fill_scales(int rank, std::int64_t token, std::span<float> scales) const;

 private:
  [[nodiscard]] std::span<const std::uint16_t> cut(int rank, std::int64_t token, std::size_t size) const;

  std::uint64_t seed_;
  std::vector<std::uint16_t> block_;
};

/// Rows of float8_e4m3 with scales as bfloat16: what an expert that does nothing would answer.
void dequantize(std::span<const std::uint8_t> row, std::span<const float> scales, std::span<Bfloat16> out);

/// Flips low mantissa bits in a way that differs between ranks, so that a combine which mixes up ranks is found out.
/// Rank numbers that differ by a multiple of 127 look alike.
void mark_row(std::span<Bfloat16> row, int rank);

}  // namespace crossdock::tool
