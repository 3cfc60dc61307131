// The first half of a low-latency dispatch: rows are cast and staged, ids are counted.
#pragma once

#include <algorithm>

#include "backend/cuda/device/channels.cuh"
#include "backend/cuda/device/float8.cuh"
#include "backend/cuda/device/ids.cuh"
#include "backend/cuda/device/items.cuh"
#include "backend/cuda/device/party.cuh"
#include "backend/cuda/device/row_access.cuh"
#include "backend/cuda/device/sums.cuh"

namespace crossdock::cuda::device {

inline constexpr int kStageLoads = 4;   ///< accesses of a lane in a piece of a row
inline constexpr int kGroupLanes = 16;  ///< that share a scale
inline constexpr int kPieceChannels = kStageLoads * kWarpThreads * kLaneChannels;  ///< of a row that is cast
static_assert(kGroupLanes * kLaneChannels == ParcelLayout::kGroup);

template <typename T>
__device__ void warp_copy_piece(const LowLatencyDispatchArgs& args, const ParcelLayout& parcel, std::int64_t token,
                                int piece) {
  const std::int64_t count = parcel.row_bytes() / static_cast<std::int64_t>(sizeof(T));
  const auto* from = reinterpret_cast<const T*>(args.x + token * args.x_stride);
  auto* to = reinterpret_cast<T*>(args.parcel + parcel.row(token));
  const LanePiece<kStageLoads> mine(piece, count);
  T values[kStageLoads];
  mine.for_each([&](int i, std::int64_t at) { values[i] = thread_load(from + at); });
  mine.for_each([&](int i, std::int64_t at) { to[at] = values[i]; });
}

template <typename T>
__device__ void thread_store_codes(unsigned char* codes, int begin, int hidden, uint2 words) {
  if constexpr (sizeof(T) == sizeof(uint4)) {
    if (begin < hidden) *reinterpret_cast<uint2*>(codes + begin) = words;
  } else {
    for (int i = 0; i < kLaneChannels && begin + i < hidden; ++i) {
      codes[begin + i] = static_cast<unsigned char>((i < 4 ? words.x : words.y) >> 8 * (i % 4));
    }
  }
}

/// T is uint4 if the channels of a lane are an aligned access in every row.
template <typename T>
__device__ void warp_cast_piece(const LowLatencyDispatchArgs& args, const ParcelLayout& parcel, std::int64_t token,
                                int piece) {
  const int lane = static_cast<int>(threadIdx.x % kWarpThreads);
  const auto hidden = static_cast<int>(args.hidden);
  const std::byte* const row = args.x + token * args.x_stride;
  auto* const codes = reinterpret_cast<unsigned char*>(args.parcel + parcel.row(token));
  std::byte* const scales = args.parcel + parcel.scales(token);
  const int first = piece * kPieceChannels + lane * kLaneChannels;
  uint4 channels[kStageLoads];
#pragma unroll
  for (int i = 0; i < kStageLoads; ++i) {
    channels[i] = thread_load_channels<T>(row, first + i * kWarpThreads * kLaneChannels, hidden);
  }
#pragma unroll
  for (int i = 0; i < kStageLoads; ++i) {
    const int begin = first + i * kWarpThreads * kLaneChannels;
    const GroupScale scale = thread_scale_of(warp_group_amax(channels[i]), args.cast);
    thread_store_codes<T>(codes, begin, hidden, thread_cast(channels[i], scale.multiplier));
    const bool stores_scale = lane % kGroupLanes == 0 && begin < hidden;
    const int group = begin / static_cast<int>(ParcelLayout::kGroup);
    if (args.cast != Cast::kFloat8Ue8m0) {
      if (stores_scale) reinterpret_cast<float*>(scales)[group] = scale.stored;
    } else if (stores_scale) {
      reinterpret_cast<unsigned char*>(scales)[group] =
          static_cast<unsigned char>(__float_as_uint(scale.stored) >> 23U);
    }
  }
  if (args.cast != Cast::kFloat8Ue8m0 || lane >= 4) return;
  // The last word of a row has bytes that are no group's.
  const int groups = (hidden + static_cast<int>(ParcelLayout::kGroup) - 1) / static_cast<int>(ParcelLayout::kGroup);
  const int unused = (groups + 3) / 4 * 4 - groups;
  if (piece == (hidden - 1) / kPieceChannels && lane < unused) {
    reinterpret_cast<unsigned char*>(scales)[groups + lane] = 0;
  }
}

/// The part of one of `num_blocks` blocks.
template <typename T, bool kCasts>
__device__ void block_stage_rows(const LowLatencyDispatchArgs& args, int block, int num_blocks) {
  const ParcelLayout parcel(args.num_tokens, args.hidden, args.cast, args.num_topk);
  const std::int64_t piece_elements =
      kCasts ? kPieceChannels : kStageLoads * kWarpThreads * static_cast<std::int64_t>(sizeof(T)) / 2;
  const int pieces = static_cast<int>((args.hidden + piece_elements - 1) / piece_elements);
  for (WarpItem item(args.num_tokens, pieces, block, num_blocks); item.is_valid(); item.step()) {
    if constexpr (kCasts) {
      warp_cast_piece<T>(args, parcel, item.token(), item.piece());
    } else {
      warp_copy_piece<T>(args, parcel, item.token(), item.piece());
    }
  }
}

/// How the warps of one block share out [N, K] selections in their order, each a run of them. Found by the host.
struct CountPlan {
  int num_selections;
  int num_warps;  ///< that have a share
  int each;       ///< selections of a share
  int row_ints;   ///< from warp to warp in the table of counts; odd, so that a column's entries are in different banks

  /// `table_ints`: at least 2 (E + 1).
  CountPlan(std::int64_t selections, int num_experts, int threads, int table_ints)
      : num_selections(static_cast<int>(selections)), row_ints(num_experts | 1) {
    const int chunks = (num_selections + kWarpThreads - 1) / kWarpThreads;
    num_warps = std::max(1, std::min({threads / kWarpThreads, chunks, table_ints / row_ints - 1}));
    each = (chunks + num_warps - 1) / num_warps * kWarpThreads;
  }
};

/// A warp's share.
struct SelectionShare {
  int begin;
  int end;
  int* counts;  ///< [E], of this share
  int* totals;  ///< [E], of all shares

  __device__ SelectionShare(const CountPlan& plan, int* table) {
    const auto warp = static_cast<int>(threadIdx.x) / kWarpThreads;
    begin = warp < plan.num_warps ? warp * plan.each : plan.num_selections;
    end = min(begin + plan.each, plan.num_selections);
    counts = table + warp * plan.row_ints;
    totals = table + plan.num_warps * plan.row_ints;
  }
};

/// A selection of a lane.
struct LaneSelection {
  int index;      ///< in [N, K]
  int id;         ///< -1: none
  unsigned same;  ///< lanes with the same id
};

/// The selections of a share from `first` on, one to a lane.
__device__ inline LaneSelection warp_read_selections(const LowLatencyDispatchArgs& args, const SelectionShare& share,
                                                     int first) {
  const int index = first + static_cast<int>(threadIdx.x % kWarpThreads);
  const int id = index < share.end ? thread_read_id(args.topk_idx, args.id_bytes, index) : -1;
  return {index, id, __match_any_sync(0xFFFFFFFFU, id)};
}

/// Calls body(selection) for each of a warp's, 32 at a time, all lanes together. `last` are those that were read last,
/// and need not be read again: if there are few there are no others.
template <typename Body>
__device__ void warp_for_each_selection(const LowLatencyDispatchArgs& args, const SelectionShare& share,
                                        LaneSelection& last, const Body& body) {
  for (int first = share.begin; first < share.end; first += kWarpThreads) {
    if (first + static_cast<int>(threadIdx.x % kWarpThreads) != last.index) {
      last = warp_read_selections(args, share, first);
    }
    body(last);
    __syncwarp();
  }
}

/// Turns the counts of the warps into what comes before each warp. A warp takes an expert, a lane a warp's count.
__device__ inline void block_sum_shares(const LowLatencyDispatchArgs& args, const CountPlan& plan,
                                        const SelectionShare& share, int* table) {
  const int lane = static_cast<int>(threadIdx.x % kWarpThreads);
  for (int expert = static_cast<int>(threadIdx.x) / kWarpThreads; expert < args.num_experts;
       expert += block_threads() / kWarpThreads) {
    int* const count = table + lane * plan.row_ints + expert;
    const int own = lane < plan.num_warps ? *count : 0;
    int sum = own;
#pragma unroll
    for (int distance = 1; distance < kWarpThreads; distance *= 2) {
      const int below = __shfl_up_sync(0xFFFFFFFFU, sum, distance);
      if (lane >= distance) sum += below;
    }
    if (lane < plan.num_warps) *count = sum - own;
    if (lane == kWarpThreads - 1) share.totals[expert] = sum;
  }
}

/// The same, and tells every rank the sums.
__device__ inline void block_sum_counts(const LowLatencyDispatchArgs& args, const BlockState& block,
                                        const CountPlan& plan, const SelectionShare& share, int* table, int* crowded) {
  const auto begin = static_cast<int>(threadIdx.x);
  if (plan.num_warps > 1) {
    block_sum_shares(args, plan, share, table);
  } else {
    for (int expert = begin; expert < args.num_experts; expert += block_threads()) {
      share.totals[expert] = table[expert];
      table[expert] = 0;
    }
  }
  __syncthreads();
  const Slot slot(args.party, block.epoch);
  for (int rank = begin / kWarpThreads; rank < args.party.num_ranks; rank += block_threads() / kWarpThreads) {
    for (int expert = begin % kWarpThreads; expert < args.num_experts; expert += kWarpThreads) {
      slot.counts(args.party.rank, rank)[expert] = share.totals[expert];
    }
  }
  for (int expert = begin; expert < args.num_experts; expert += block_threads()) {
    if (share.totals[expert] > args.max_tokens) atomicMin(crowded, expert);
  }
}

/// What the block that counts finds. Lies in shared memory.
struct CountFindings {
  int first_bad;  ///< place of an id that is not allowed
  int crowded;    ///< expert that too many rows go to; E: none

  static constexpr int kNone = 0x7FFFFFFF;
};

/// What can be done before block_begin, and a barrier, have come: the counts are 0, the first selections are read.
__device__ inline LaneSelection block_prepare_count(const LowLatencyDispatchArgs& args, const CountPlan& plan,
                                                    int* table, CountFindings& found) {
  for (int i = static_cast<int>(threadIdx.x); i < plan.num_warps * plan.row_ints; i += block_threads()) table[i] = 0;
  if (threadIdx.x == 0) found = {CountFindings::kNone, args.num_experts};
  const SelectionShare share(plan, table);
  return warp_read_selections(args, share, share.begin);
}

/// One block counts the selections and says where each row will lie among its rank's rows for its expert.
__device__ inline void block_count(const LowLatencyDispatchArgs& args, BlockState& block, const ParcelHeader& staged,
                                   LaneSelection last, int* table, const CountPlan& plan, CountFindings& found) {
  const SelectionShare share(plan, table);
  const int lane = static_cast<int>(threadIdx.x % kWarpThreads);
  // By the warps that have the least to count.
  static_assert(GridShape::kFewestThreads > 2 * kMaxRanks);
  block_await_slot(args.party, block, block_threads() - kMaxRanks);
  if (args.is_captured != 0) block_await_parcel(args.party, block, staged, block_threads() - 2 * kMaxRanks);
  warp_for_each_selection(args, share, last, [&](const LaneSelection& selection) {
    if (selection.id >= 0 && selection.id < args.num_experts) {
      if (lane == __ffs(static_cast<int>(selection.same)) - 1) share.counts[selection.id] += __popc(selection.same);
    } else if (selection.id != -1) {
      atomicMin(&found.first_bad, selection.index);
    }
  });
  if (block_fails(args.party, block)) return;
  block_sum_counts(args, block, plan, share, table, &found.crowded);
  __syncthreads();
  const ParcelLayout parcel(args.num_tokens, args.hidden, args.cast, args.num_topk);
  auto* routes = reinterpret_cast<RouteEntry*>(args.parcel + parcel.routes(0));
  warp_for_each_selection(args, share, last, [&](const LaneSelection& selection) {
    const bool is_expert = selection.id >= 0 && selection.id < args.num_experts;
    const unsigned before = selection.same & ((1U << lane) - 1U);
    const int ordinal = is_expert ? share.counts[selection.id] + __popc(before) : 0;
    __syncwarp();
    if (is_expert && before == 0) share.counts[selection.id] += __popc(selection.same);
    if (selection.index < share.end) routes[selection.index] = {is_expert ? selection.id : -1, ordinal};
  });
  if (threadIdx.x != 0) return;
  OwnState& own = thread_own(args.party);
  if (found.first_bad != CountFindings::kNone) {
    own.obstacle = Obstacle::kBadId;
    own.detail[0] = found.first_bad;
    own.detail[1] = args.id_bytes == 4 ? reinterpret_cast<const int*>(args.topk_idx)[found.first_bad]
                                       : reinterpret_cast<const long long*>(args.topk_idx)[found.first_bad];
  } else if (found.crowded < args.num_experts) {
    own.obstacle = Obstacle::kTooManyRows;
    own.detail[0] = found.crowded;
  }
}

}  // namespace crossdock::cuda::device
