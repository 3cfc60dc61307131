// Rows of a low-latency combine as LogFMT-10 (codec/logfmt.hpp).
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "base/bfloat16.hpp"

namespace crossdock::host {

/// Bytes from staged row to staged row: enough for any, whole cache lines. A row that became shorter leaves the rest of
/// its place alone.
[[nodiscard]] std::size_t logfmt_stride(std::int64_t hidden) noexcept;

/// `rows` contiguous rows of x to as many places of the stride.
void stage_logfmt_rows(const Bfloat16* x, std::size_t rows, std::int64_t hidden, std::byte* staged);

struct WeightedRow;
/// As sum_weighted_rows, but the rows are staged as LogFMT. `scratch` is float32 [2, hidden].
void sum_weighted_logfmt_rows(std::span<const WeightedRow> rows, std::size_t hidden, std::span<float> scratch,
                              std::byte* out);

}  // namespace crossdock::host
