// The kernels of throughput mode that go without the host: ranks agree, move rows, and wait for each other.
#pragma once

#include <cuda_runtime_api.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "backend/cuda/device/completion.hpp"
#include "backend/cuda/device/copy.hpp"
#include "backend/cuda/device/layout.hpp"
#include "backend/cuda/device/party.hpp"
#include "backend/cuda/device/reduce.hpp"
#include "backend/cuda/device/selections.hpp"
#include "backend/cuda/device/send.hpp"

namespace crossdock::cuda::device {

/// What a worst-case dispatch leaves in device memory for what uses its handle. The tokens of each rank, int64 [R], the
/// rows from each rank to each rank, int32 [R, R], and of an expanded dispatch the ends of this rank's L groups, int32
/// [L], follow.
struct HandleCounts {
  std::uint64_t epoch;  ///< of the dispatch
  CopyRows received;    ///< all, without those from this rank itself if they are in one piece

  // Offsets from the beginning of this.
  [[nodiscard]] static constexpr std::size_t num_tokens_of() { return sizeof(HandleCounts); }
  [[nodiscard]] static constexpr std::size_t counts(int num_ranks) {
    return num_tokens_of() + static_cast<std::size_t>(num_ranks) * sizeof(std::int64_t);
  }
  [[nodiscard]] static constexpr std::size_t group_ends(int num_ranks) {
    const auto ranks = static_cast<std::size_t>(num_ranks);
    return counts(num_ranks) + ranks * ranks * sizeof(std::int32_t);
  }
  [[nodiscard]] static constexpr std::size_t bytes(int num_ranks, int num_groups) {
    return group_ends(num_ranks) + static_cast<std::size_t>(num_groups) * sizeof(std::int32_t);
  }
};

/// What an expanded dispatch has besides. E experts, L of them this rank's.
struct GroupArgs {
  std::int32_t alignment = 0;                      ///< 0: it is not expanded
  const std::int32_t* given_per_expert = nullptr;  ///< [E] what the caller says of the counts, or null
  std::int32_t* first_rows = nullptr;              ///< written: [E] for SelectionArgs, and scratch [E]
  std::int32_t* ends = nullptr;                    ///< [L] written
};

/// What all three kinds of operation have in common. N tokens, R ranks.
struct WorstCaseArgs {
  Party party;  ///< Phases::kBoth
  OperationKind kind = OperationKind::kWorstCaseDispatch;
  // Announced; see Record.
  std::int32_t num_topk = 0;
  std::int32_t num_experts = 0;
  std::int32_t id_bytes = 0;
  std::int32_t num_scales = 0;
  std::uint32_t dtypes = 0;
  std::int64_t num_tokens = 0;
  std::int64_t hidden = 0;
  std::int64_t extent = 0;
  Placement placement{};

  /// Written by a dispatch that counts, read by the others.
  HandleCounts* handle = nullptr;
  GroupArgs groups;  ///< a dispatch that counts; the others have the alignment only

  // A dispatch that counts: what launch_layout found, in device memory.
  LayoutCounts found;
  const std::int32_t* given_per_rank = nullptr;  ///< [R] what the caller says of the same, or null
  const std::byte* topk_idx = nullptr;           ///< [N, K]
  std::int32_t* statistics = nullptr;            ///< [L], or null

  // Dispatches. The rows of a cached one from ranks that are masked are zeroed.
  SendTable* send = nullptr;  ///< written
  std::byte* recv_x = nullptr;
  std::byte* recv_scales = nullptr;
  std::int64_t row_bytes = 0;
  std::int64_t scale_row_bytes = 0;

  // Combine: this rank's own rows are read where the caller has them.
  ReduceTable* reduce = nullptr;  ///< written
  const std::byte* own_x = nullptr;
  std::int64_t own_stride = 0;
  const float* own_weights = nullptr;

  Completion completion;
};
static_assert(sizeof(HandleCounts) % sizeof(std::int64_t) == 0);
static_assert(sizeof(WorstCaseArgs) +
                  std::max(sizeof(SendArgs) + sizeof(SelectionArgs) + sizeof(PaddingArgs), sizeof(ReduceArgs)) <=
              4096);

/// Before any rank's kernels run; see load_low_latency_dispatch.
cudaError_t load_worst_case();

/// One kernel: its first block announces, waits for all ranks, compares and finds out where rows go; all blocks move
/// them; the last one waits until all rows for this rank are here. Occupies `num_sms` multiprocessors, those of all
/// ranks of a device at once.
cudaError_t launch_worst_case_dispatch(const WorstCaseArgs& args, const SendArgs& rows, int num_sms,
                                       cudaStream_t stream);
/// The same of an expanded one; a dispatch that counts also finds the rows of selections, whose blocks were counted for
/// `num_sms` blocks (see launch_selection_counts).
cudaError_t launch_expanded_worst_case_dispatch(const WorstCaseArgs& args, const SendArgs& rows,
                                                const SelectionArgs& selections, const PaddingArgs& padding,
                                                int num_sms, cudaStream_t stream);
/// The same of a combine, which ends when all have read this rank's rows. `row_access`: bytes of the widest access that
/// suits all contributors' rows.
cudaError_t launch_worst_case_combine(const WorstCaseArgs& args, const ReduceArgs& rows, int row_access, int num_sms,
                                      cudaStream_t stream);

}  // namespace crossdock::cuda::device
