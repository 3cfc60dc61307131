// The arena that low-latency operations need.
#pragma once

#include <cstddef>
#include <cstdint>

namespace crossdock::tool {

/// One dispatch and one combine of a rank; nothing else in its arena.
struct LowLatencyShape {
  std::int64_t num_local_experts = 0;  ///< L
  std::int64_t num_ranks = 1;          ///< R
  std::int64_t max_tokens = 0;         ///< M
  std::int64_t hidden = 0;             ///< H
  std::int64_t row_bytes = 0;          ///< of a dispatched row, scales left out
  std::int64_t num_scales = 0;         ///< float32 scales of a row
};

/// Bytes of the received rows [L, R * M, H] with scales, counts, source tokens and ranges, and of one combine input
/// bfloat16 [L, R * M, H], each rounded up to a slab of the arena.
[[nodiscard]] std::size_t get_low_latency_arena_bytes(const LowLatencyShape& shape);

}  // namespace crossdock::tool
