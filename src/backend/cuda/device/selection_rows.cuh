// How the rows of an expanded dispatch's selections are found, and what lies between its groups.
#pragma once

#include "backend/cuda/device/ids.cuh"
#include "backend/cuda/device/items.cuh"
#include "backend/cuda/device/limits.hpp"
#include "backend/cuda/device/ranks.cuh"
#include "backend/cuda/device/row_access.cuh"
#include "backend/cuda/device/selections.hpp"
#include "plan/experts.hpp"

namespace crossdock::cuda::device {

inline constexpr int kNoRank = 0x7FFFFFFF;  ///< of a selection without a row: behind all others

/// The selections of a block: whole warps of them, in the order of (token, column).
struct BlockSelections {
  unsigned begin;
  unsigned end;

  explicit __device__ BlockSelections(const SelectionArgs& args) {
    const auto all = static_cast<unsigned>(args.num_tokens) * static_cast<unsigned>(args.table.num_topk);
    const unsigned warps = (all + kWarpThreads - 1) / kWarpThreads;
    const unsigned count = (warps + gridDim.x - 1) / gridDim.x * kWarpThreads;
    begin = min(blockIdx.x * count, all);
    end = min(begin + count, all);
  }
};

/// `ranks`: bit r: rows go to rank r.
__device__ inline int thread_rank(const plan::ExpertMap& experts, std::uint64_t ranks, int expert) {
  const int rank = expert >= 0 ? experts.owner(expert) : -1;
  return rank >= 0 && thread_takes_part(ranks, rank) ? rank : kNoRank;
}

/// All threads. An id that is not allowed is not counted.
__device__ inline void block_count_selections(const SelectionArgs& args) {
  std::int32_t* const counts = args.block_counts + static_cast<std::int64_t>(blockIdx.x) * args.num_experts;
  for (int e = static_cast<int>(threadIdx.x); e < args.num_experts; e += block_threads()) counts[e] = 0;
  __syncthreads();
  const BlockSelections mine(args);
  for (unsigned i = mine.begin + threadIdx.x; i < mine.end; i += blockDim.x) {
    const int expert = thread_read_id(args.topk_idx, args.id_bytes, i);
    if (expert >= 0 && expert < args.num_experts) atomicAdd(&counts[expert], 1);
  }
}

/// Where the block's first selection of each expert goes: behind those of the blocks before it.
__device__ inline void block_find_first_rows(const SelectionArgs& args, std::int32_t* next_rows) {
  for (int e = static_cast<int>(threadIdx.x); e < args.num_experts; e += block_threads()) {
    std::int32_t row = args.first_rows[e];
#pragma unroll 8
    for (unsigned block = 0; block < blockIdx.x; ++block) {
      row += args.block_counts[static_cast<std::int64_t>(block) * args.num_experts + e];
    }
    next_rows[e] = row;
  }
  __syncthreads();
}

/// The rows of 32 selections, one to a lane, which come behind those of earlier calls; any row for those without
/// expert.
__device__ inline int warp_take_rows(std::int32_t* next_rows, int expert) {
  const unsigned lane = threadIdx.x % kWarpThreads;
  const unsigned same = __match_any_sync(0xFFFFFFFFU, expert);
  const int first = __ffs(static_cast<int>(same)) - 1;
  int row = 0;
  if (static_cast<int>(lane) == first && expert >= 0) {
    row = next_rows[expert];
    next_rows[expert] = row + __popc(same);
  }
  __syncwarp();  // the next call reads what this one has stored
  return __shfl_sync(0xFFFFFFFFU, row, first) + __popc(same & ((1U << lane) - 1U));
}

/// The entry of a selection: its place among those of its token.
__device__ inline void thread_enter(const SelectionArgs& args, const plan::ExpertMap& experts, std::uint64_t ranks,
                                    unsigned selection, int rank, int row) {
  const auto num_topk = static_cast<unsigned>(args.table.num_topk);
  const unsigned column = selection % num_topk;
  const unsigned first = selection - column;
  unsigned place = 0;
  for (unsigned k = 0; k < num_topk; ++k) {
    const int other = thread_rank(experts, ranks, thread_read_id(args.topk_idx, args.id_bytes, first + k));
    if (other < rank || (other == rank && k < column)) ++place;
  }
  args.table.rows[first + place] = {rank == kNoRank ? -1 : rank, row};
  args.table.columns[first + place] = static_cast<std::int32_t>(column);
}

/// All threads find where the block begins, its first warp gives rows. REQUIRES: block_count_selections was called in
/// as many blocks, and ids are allowed.
__device__ inline void block_find_rows(const SelectionArgs& args, std::uint64_t ranks) {
  std::int32_t* const next_rows = args.next_rows + static_cast<std::int64_t>(blockIdx.x) * args.num_experts;
  block_find_first_rows(args, next_rows);
  if (threadIdx.x >= kWarpThreads) return;
  const plan::ExpertMap experts(args.num_experts, args.num_ranks);
  const BlockSelections mine(args);
  for (unsigned begin = mine.begin; begin < mine.end; begin += kWarpThreads) {
    const unsigned selection = begin + threadIdx.x;
    const bool is_selection = selection < mine.end;
    const int expert = is_selection ? thread_read_id(args.topk_idx, args.id_bytes, selection) : -1;
    const int row = warp_take_rows(next_rows, expert);
    if (is_selection) thread_enter(args, experts, ranks, selection, thread_rank(experts, ranks, expert), row);
  }
}

/// A group's padding.
struct PaddingRows {
  std::int64_t begin;
  std::int64_t count;
};

template <typename T>
__device__ void grid_clear(std::byte* rows, std::int64_t row_bytes, const PaddingRows& padding) {
  auto* const out = reinterpret_cast<T*>(rows + padding.begin * row_bytes);
  const std::int64_t count = padding.count * row_bytes / static_cast<std::int64_t>(sizeof(T));
  const std::int64_t step = static_cast<std::int64_t>(gridDim.x) * blockDim.x;
  for (std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < count; i += step) {
    thread_store(out + i, T{});
  }
}

/// All threads of all blocks.
template <typename T>
__device__ void grid_clear_padding(const PaddingArgs& args) {
  for (int group = 0; group < args.num_groups; ++group) {
    const std::int64_t begin = args.group_ends[group];
    const PaddingRows padding{begin, (args.alignment - begin % args.alignment) % args.alignment};
    grid_clear<T>(args.x, args.row_bytes, padding);
    grid_clear<unsigned char>(args.scales, args.scale_row_bytes, padding);
    if (args.weights == nullptr || blockIdx.x != 0) continue;
    for (std::int64_t i = threadIdx.x; i < padding.count; i += blockDim.x) {
      args.weights[begin + i] = 0.0F;
      args.src_idx[begin + i] = -1;
    }
  }
}

}  // namespace crossdock::cuda::device
