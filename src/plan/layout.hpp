// Counting: where the tokens of one rank go.
#pragma once

#include <cstdint>
#include <span>
#include <variant>

#include <crossdock/topology.hpp>

#include "plan/experts.hpp"

namespace crossdock::plan {

/// Top-k expert ids, row-major [num_tokens, num_topk]; -1 selects nothing.
struct TopkIds {
  std::variant<const std::int64_t*, const std::int32_t*> ids;
  std::int64_t num_tokens = 0;
  int num_topk = 0;
};

/// Where compute_layout puts its results; all are overwritten.
struct LayoutSpans {
  std::span<std::int32_t> num_tokens_per_rank;    ///< [R]
  std::span<std::int32_t> num_tokens_per_node;    ///< [nodes], or empty if not wanted
  std::span<std::int32_t> num_tokens_per_expert;  ///< [E]
  std::span<std::uint8_t> is_token_in_rank;       ///< [num_tokens, R], 0 or 1
};

/// One fused pass over the ids. A token counts once per rank and once per node; an expert is counted for every
/// selection. Throws kInvalidArgument, naming token, column and id, for an id outside [-1, E).
void compute_layout(const TopkIds& topk, const ExpertMap& experts, const Topology& topology, const LayoutSpans& out);

}  // namespace crossdock::plan
