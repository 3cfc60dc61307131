// The kernels that count where tokens go.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>

#include "backend/cuda/device/completion.hpp"
#include "backend/cuda/device/limits.hpp"

namespace crossdock::cuda::device {

/// Tokens that a block counts at a time.
inline constexpr int kLayoutTokens = 128;

/// Device memory that counting needs. All but masks and block_counts must be zero, and all but
/// stamped_counts is left as it was found.
struct LayoutScratch {
  std::uint64_t* masks = nullptr;        ///< [N] bit r: the token goes to rank r
  std::int32_t* block_counts = nullptr;  ///< [blocks, R] tokens that each block found for each rank
  /// Instead of block_counts, with the message's number, so that blocks can wait for them.
  std::uint64_t* stamped_counts = nullptr;
  std::int32_t* rank_totals = nullptr;    ///< [R]
  std::int32_t* expert_totals = nullptr;  ///< [E]
  std::uint64_t* bad_id = nullptr;        ///< largest of ~(place of an id that is not allowed), 0: none
};

/// What was counted, in device memory.
struct LayoutCounts {
  std::int32_t* per_rank = nullptr;    ///< [R]
  std::int32_t* per_expert = nullptr;  ///< [E]
  std::uint64_t* bad_id = nullptr;     ///< as in the scratch
};

/// The same for the host, in pinned memory: R and E counts and the two halves of bad_id, stamped.
struct CountMessage {
  std::uint64_t* words = nullptr;  ///< null: LayoutCounts are written
  std::uint32_t number = 0;

  [[nodiscard]] static constexpr std::size_t num_words(int num_ranks, int num_experts) {
    return static_cast<std::size_t>(num_ranks) + static_cast<std::size_t>(num_experts) + 2;
  }
};

/// N tokens, K top-k, E experts, R ranks. Either topk_idx or membership says where tokens go; with both, the ids are
/// looked at and counted only. E experts on R ranks as in plan::ExpertMap: the first `num_large` ranks have one more
/// than `small`.
struct LayoutArgs {
  std::int64_t num_tokens = 0;
  std::int32_t num_topk = 0;
  std::int32_t num_experts = 0;
  std::int32_t num_ranks = 0;
  std::int32_t small = 0;
  std::int32_t num_large = 0;
  std::int32_t id_bytes = 8;                      ///< 4 or 8
  const std::byte* topk_idx = nullptr;            ///< [N, K], or null
  const std::uint8_t* membership = nullptr;       ///< [N, R], or null
  std::uint8_t* is_token_in_rank = nullptr;       ///< [N, R] written if there is no membership
  std::int32_t* num_tokens_per_rank = nullptr;    ///< [R], or null
  std::int32_t* num_tokens_per_expert = nullptr;  ///< [E], or null
  std::int32_t* rows = nullptr;  ///< [N, R] row in the block for each rank, -1: none; null if not wanted
  LayoutScratch scratch;
  LayoutCounts counts;
  CountMessage message;
  Completion completion;  ///< of the counts; the rows follow on the stream
};

/// Blocks that are launched for so many tokens: the size of block_counts.
[[nodiscard]] int layout_blocks(std::int64_t num_tokens);

/// Before any rank's kernels run; see load_low_latency_dispatch.
cudaError_t load_layout();

/// One pass over the ids or the membership table counts and completes; a second one, over a word per token, gives rows:
/// by the same kernel if counts are stamped.
cudaError_t launch_layout(const LayoutArgs& args, cudaStream_t stream);

}  // namespace crossdock::cuda::device
