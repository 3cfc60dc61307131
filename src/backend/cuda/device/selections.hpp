// The kernels of an expanded dispatch that find the rows of selections and clear padding.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>

namespace crossdock::cuda::device {

/// A row that a token becomes.
struct SelectionRow {
  std::int32_t rank;  ///< that gets it; -1: there is none
  std::int32_t row;   ///< of its tensor
};
static_assert(sizeof(SelectionRow) == 8);

/// The rows of each token of a rank by ascending (rank, column); entries without a row follow. A token's columns are
/// all there, each once.
struct SelectionTable {
  SelectionRow* rows = nullptr;     ///< [N, K]
  std::int32_t* columns = nullptr;  ///< [N, K] of topk_idx
  std::int32_t num_topk = 0;        ///< K
};

/// N tokens, E experts on R ranks as in plan::ExpertMap.
struct SelectionArgs {
  std::int64_t num_tokens = 0;
  std::int32_t num_experts = 0;
  std::int32_t num_ranks = 0;
  std::int32_t id_bytes = 8;                 ///< 4 or 8
  const std::byte* topk_idx = nullptr;       ///< [N, K], checked: -1 or experts
  std::uint64_t ranks = 0;                   ///< bit r: rows go to rank r, if that is known
  const std::int32_t* first_rows = nullptr;  ///< [E] of the rows that this rank sends to each expert
  std::int32_t* block_counts = nullptr;      ///< scratch [blocks, E]
  std::int32_t* next_rows = nullptr;         ///< scratch [blocks, E]
  SelectionTable table;
};

/// Blocks that are launched for so many selections: the size of the scratch.
[[nodiscard]] int selection_blocks(std::int64_t num_selections);

/// Fills the table. Selections of an expert get rows in the order of (token, column). REQUIRES: 31 bits count them.
cudaError_t launch_selections(const SelectionArgs& args, cudaStream_t stream);

/// Only the block counts, for a kernel of `num_blocks` blocks that finds the rows. Ids need not be checked.
cudaError_t launch_selection_counts(const SelectionArgs& args, int num_blocks, cudaStream_t stream);

/// What lies between an expanded dispatch's groups: rows from a group's end to the next multiple of the alignment.
struct PaddingArgs {
  const std::int32_t* group_ends = nullptr;  ///< [num_groups]
  std::int32_t num_groups = 0;
  std::int32_t alignment = 1;
  std::byte* x = nullptr;
  std::int64_t row_bytes = 0;
  std::byte* scales = nullptr;
  std::int64_t scale_row_bytes = 0;  ///< 0: no scales
  float* weights = nullptr;          ///< null for a cached dispatch, like the next
  std::int32_t* src_idx = nullptr;
};

/// Rows, scales and weights become 0, source tokens -1. Occupies at most `num_sms` multiprocessors.
cudaError_t launch_padding(const PaddingArgs& args, int num_sms, cudaStream_t stream);

/// Before any rank's kernels run; see load_low_latency_dispatch.
cudaError_t load_selections();

}  // namespace crossdock::cuda::device
