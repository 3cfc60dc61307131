// The specification of throughput mode: serial dispatch and combine over a whole world in memory, in the plainest code.
// Every backend must equal it bit for bit.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include <crossdock/types.hpp>

namespace crossdock::reference {

/// What one rank brings to a dispatch.
struct DispatchRank {
  std::int64_t num_tokens = 0;
  std::vector<std::byte> x;                    ///< [num_tokens, row_bytes]
  std::vector<std::byte> scales;               ///< [num_tokens, scale_row_bytes], packed row-major; empty if none
  std::vector<std::int64_t> topk_idx;          ///< [num_tokens, num_topk]
  std::vector<float> topk_weights;             ///< [num_tokens, num_topk]
  std::vector<std::uint8_t> is_token_in_rank;  ///< [num_tokens, R]; used only if the world has no top-k
};

struct DispatchWorld {
  int num_experts = 1;
  int num_topk = 0;  ///< 0: dispatched without top-k
  std::size_t row_bytes = 0;
  std::size_t scale_row_bytes = 0;
  std::vector<DispatchRank> ranks;
  bool expand = false;       ///< a row for each selection, grouped by expert; requires top-k
  int expert_alignment = 1;  ///< of the groups of an expanded dispatch
};

/// What one rank gets. M rows in the order of (source rank, source token). Expanded: rows of each local expert in the
/// order of (source rank, source token, column), each expert's from a multiple of expert_alignment on; M counts the
/// padding too, which is zero.
struct DispatchedRank {
  std::int64_t num_recv_tokens = 0;                 ///< M; expanded: without padding
  std::vector<std::byte> recv_x;                    ///< [M, row_bytes]
  std::vector<std::byte> recv_scales;               ///< [M, scale_row_bytes]
  std::vector<std::int64_t> recv_topk_idx;          ///< [M, num_topk], local ids, -1 elsewhere; expanded: empty
  std::vector<float> recv_topk_weights;             ///< [M, num_topk], 0 where the id is -1; expanded: [M]
  std::vector<std::int32_t> recv_src_rank;          ///< [M], -1 for padding
  std::vector<std::int32_t> recv_src_idx;           ///< [M], -1 for padding
  std::vector<std::int32_t> recv_column;            ///< expanded: [M] column of the selection, -1 for padding
  std::vector<std::int32_t> group_ends;             ///< expanded: for each local expert, behind its last row
  std::vector<std::int32_t> num_tokens_per_expert;  ///< selections of each local expert, all sources, not aligned;
                                                    ///< empty if the world has no top-k
  std::vector<std::uint8_t> is_token_in_rank;       ///< [num_tokens, R] of this rank's own tokens
};

/// Throws kInvalidArgument for an id outside [-1, num_experts).
[[nodiscard]] std::vector<DispatchedRank> dispatch(const DispatchWorld& world);

/// What one rank brings to a combine; x is bfloat16 or float32 as the world says.
struct CombineRank {
  std::int64_t num_tokens = 0;      ///< tokens of this rank, as dispatched
  std::vector<std::byte> x;         ///< [M, hidden], rows in dispatch order
  std::vector<float> topk_weights;  ///< [M, num_topk]; expanded: [M]; empty if none
  std::vector<std::byte> bias_0;    ///< [num_tokens, hidden]; empty if none
  std::vector<std::byte> bias_1;    ///< [num_tokens, hidden]; empty if none
};

struct CombineWorld {
  DataType dtype = DataType::kBfloat16;
  std::int64_t hidden = 0;
  int num_topk = 0;  ///< 0: no weights are given
  std::vector<CombineRank> ranks;
};

struct CombinedRank {
  std::vector<std::byte> combined_x;         ///< [num_tokens, hidden]
  std::vector<float> combined_topk_weights;  ///< [num_tokens, num_topk]; empty if no weights were given
};

/// Sums in float32: starts from +0, adds bias_0, then bias_1, then the contributions in ascending rank, and rounds
/// once. A token that went nowhere gets the biases, or +0. Weights are summed likewise, without biases. Expanded: a
/// rank has a contribution for each selection, added by ascending column; its weight goes to that column. A NaN result
/// is the canonical quiet NaN. Throws kInvalidArgument for a dtype that is neither bfloat16 nor float32.
[[nodiscard]] std::vector<CombinedRank> combine(const CombineWorld& world,
                                                const std::vector<DispatchedRank>& dispatched);

}  // namespace crossdock::reference
