// The loops of LogFMT-10 (codec/logfmt.hpp is the definition), compiled for several instruction sets and chosen at run
// time (Highway).
#pragma once

#include <cstddef>
#include <span>

#include "backend/host/low_latency_kernels.hpp"
#include "base/bfloat16.hpp"

namespace crossdock::host {

/// Equals codec::encode_logfmt bit for bit; returns the bytes that the row takes.
/// REQUIRES: `wire` has room for codec::logfmt_max_bytes(hidden).
std::size_t encode_logfmt_row(const Bfloat16* row, std::size_t hidden, std::byte* wire);

/// The float32 elements of scratch that a sum takes: whole groups.
[[nodiscard]] std::size_t logfmt_sum_elements(std::size_t hidden) noexcept;

/// As sum_weighted_rows, of rows as codec::encode_logfmt makes them and codec::decode_logfmt reads them: the decoded
/// float32 values are summed. REQUIRES: sums.size() >= logfmt_sum_elements(hidden).
void sum_weighted_logfmt_rows(std::span<const WeightedRow> rows, std::size_t hidden, std::span<float> sums,
                              std::byte* out);

}  // namespace crossdock::host
