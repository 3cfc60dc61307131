// The loops of low-latency mode over single rows, compiled for several instruction sets and chosen at run time
// (Highway).
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "backend/host/kernels.hpp"
#include "base/bfloat16.hpp"
#include "codec/float8.hpp"

namespace crossdock::host {

/// Stores one row at several destinations; it is read once for every eight of them.
void multicast_row(const std::byte* source, std::size_t bytes, std::span<std::byte* const> destinations, Stores stores);

/// One long row to one place.
void copy_bytes(const std::byte* source, std::size_t bytes, std::byte* destination, Stores stores);

/// Before the signal that says that rows stored with Stores::kStreaming are there.
void flush_streaming_stores();

/// Equals codec::quantize_row bit for bit.
void quantize_row(const Bfloat16* row, std::size_t hidden, codec::ScaleRounding rounding, std::uint8_t* values,
                  float* scales);

/// One addend of a weighted sum.
struct WeightedRow {
  const std::byte* row = nullptr;  ///< bfloat16 [hidden]
  float weight = 0;
};
/// out = round(fma(row_n, weight_n, ... fma(row_0, weight_0, +0))), each in float32, rounded once to bfloat16; a NaN
/// becomes kBfloat16Nan.
void sum_weighted_rows(std::span<const WeightedRow> rows, std::size_t hidden, std::byte* out);

}  // namespace crossdock::host
