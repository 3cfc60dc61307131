#include "crossdock/low_latency_arena.hpp"

#include <algorithm>

namespace crossdock::tool {

std::size_t get_low_latency_arena_bytes(const LowLatencyShape& shape) {
  constexpr std::int64_t kSlab = 128;
  constexpr std::int64_t kSmallest = 1 << 16;  // for a rank that has no experts
  const std::int64_t rows = shape.num_local_experts * shape.num_ranks * shape.max_tokens;
  std::int64_t sum = 0;
  for (const std::int64_t bytes : {
           rows * shape.row_bytes,                         // received rows
           rows * shape.num_scales * 4,                    // their scales
           shape.num_local_experts * 4,                    // counts
           rows * 4,                                       // source tokens
           shape.num_local_experts * shape.num_ranks * 8,  // ranges
           rows * shape.hidden * 2,                        // combine input
       }) {
    sum += (bytes + kSlab - 1) / kSlab * kSlab;
  }
  return static_cast<std::size_t>(std::max(sum, kSmallest));
}

}  // namespace crossdock::tool
