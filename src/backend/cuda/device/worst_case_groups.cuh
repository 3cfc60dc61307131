// What an expanded dispatch that goes without the host finds out besides: groups, and the rows of selections.
#pragma once

#include "backend/cuda/device/expert_counts.cuh"
#include "backend/cuda/device/items.cuh"
#include "backend/cuda/device/party.cuh"
#include "backend/cuda/device/selection_rows.cuh"
#include "backend/cuda/device/worst_case.hpp"
#include "plan/experts.hpp"

namespace crossdock::cuda::device {

__device__ inline std::int32_t* thread_group_ends_of(HandleCounts* handle, int num_ranks) {
  return reinterpret_cast<std::int32_t*>(reinterpret_cast<std::byte*>(handle) + HandleCounts::group_ends(num_ranks));
}

/// All threads. No groups: what follows on the stream may ask for them, whatever became of the dispatch.
__device__ inline void block_clear_groups(const WorstCaseArgs& args) {
  const plan::ExpertMap experts(args.num_experts, args.party.num_ranks);
  std::int32_t* const ends = thread_group_ends_of(args.handle, args.party.num_ranks);
  const int count = experts.count(args.party.rank);
  for (int i = static_cast<int>(threadIdx.x); i < count; i += block_threads()) {
    ends[i] = 0;
    args.groups.ends[i] = 0;
  }
}

/// All threads. The selections that each rank sends to each rank, [R, R].
__device__ inline void block_sum_selections(const WorstCaseArgs& args, const BlockState& block, std::int32_t* counts) {
  const Party& party = args.party;
  const Slot slot(party, block.epoch);
  const plan::ExpertMap experts(args.num_experts, party.num_ranks);
  for (int i = static_cast<int>(threadIdx.x); i < party.num_ranks * party.num_ranks; i += block_threads()) {
    const int from = i / party.num_ranks;
    const int to = i % party.num_ranks;
    std::int32_t sum = 0;
    if (!thread_is_masked(block, from) && !thread_is_masked(block, to)) {
      const std::int32_t* const selections = slot.counts(from, party.rank) + experts.begin(to);
      for (int e = 0; e < experts.count(to); ++e) sum += selections[e];
    }
    counts[i] = sum;
  }
}

/// All threads. Finds out where each expert's selections begin that this rank sends, and where its own groups end.
/// Returns the rows of the thread's rank, groups padded, to the first R threads.
__device__ inline std::int64_t block_take_groups(const WorstCaseArgs& args, const BlockState& block) {
  const Party& party = args.party;
  std::int32_t* const first_rows = args.groups.first_rows;
  std::int32_t* const totals = first_rows + args.num_experts;
  for (int e = static_cast<int>(threadIdx.x); e < args.num_experts; e += block_threads()) {
    std::int32_t total = 0;
    thread_for_each_count(party, block, e, [&](int rank, int count) {
      if (rank == party.rank) first_rows[e] = total;
      total += count;
    });
    totals[e] = total;
  }
  __syncthreads();
  const int rank = static_cast<int>(threadIdx.x);
  if (rank >= party.num_ranks) return 0;
  const plan::ExpertMap experts(args.num_experts, party.num_ranks);
  const int first = experts.begin(rank);
  std::int32_t* const ends = thread_group_ends_of(args.handle, party.num_ranks);
  std::int64_t row = 0;
  for (int i = 0; i < experts.count(rank); ++i) {
    first_rows[first + i] += static_cast<std::int32_t>(row);
    row += totals[first + i];
    if (rank == party.rank) ends[i] = args.groups.ends[i] = static_cast<std::int32_t>(row);
    row = (row + args.groups.alignment - 1) / args.groups.alignment * args.groups.alignment;
  }
  return row;
}

/// All threads. Nothing is sent to ranks that are masked, and their rows of an earlier dispatch become zeros.
__device__ inline void block_clear_result(const WorstCaseArgs& args) {
  const auto clear = [&](std::byte* rows, std::int64_t row_bytes) {
    for (std::int64_t i = threadIdx.x; i < args.extent * row_bytes; i += blockDim.x) rows[i] = std::byte{0};
  };
  clear(args.recv_x, args.row_bytes);
  clear(args.recv_scales, args.scale_row_bytes);
  __threadfence_system();
  __syncthreads();
}

/// All threads of all blocks, after the exchange. Fills the table of selections; if the dispatch failed, with none.
__device__ inline void grid_find_rows(const WorstCaseArgs& args, const SelectionArgs& selections) {
  if (args.send->num_recv >= 0) {
    block_find_rows(selections, args.send->ranks);
  } else {
    const BlockSelections mine(selections);
    for (unsigned i = mine.begin + threadIdx.x; i < mine.end; i += blockDim.x) {
      selections.table.rows[i] = {-1, -1};
      selections.table.columns[i] = static_cast<std::int32_t>(i % static_cast<unsigned>(selections.table.num_topk));
    }
  }
  __syncthreads();
  if (threadIdx.x == 0) {
    std::uint32_t* const rows_found = &thread_own(args.party).rows_found;
    thread_add_here(rows_found, 1);
    while (thread_acquire_here(rows_found) < gridDim.x) {
    }
  }
  __syncthreads();
}

}  // namespace crossdock::cuda::device
