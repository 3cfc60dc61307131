// The first half of a low-latency dispatch: rows are cast and staged, ids are counted.
#pragma once

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
  for (WarpItem item(args.num_tokens, pieces, kDispatchThreads, block, num_blocks); item.is_valid(); item.step()) {
    if constexpr (kCasts) {
      warp_cast_piece<T>(args, parcel, item.token(), item.piece());
    } else {
      warp_copy_piece<T>(args, parcel, item.token(), item.piece());
    }
  }
}

/// How the warps of one block share out [N, K] selections in their order, each a run of them, and count them.
struct SelectionShare {
  int begin;
  int end;
  int num_warps;  ///< that have a share
  int row_ints;   ///< from warp to warp in the table of counts; odd, so that a column's entries are in different banks
  int* counts;    ///< [E], of this warp's share

  __device__ SelectionShare(int count, int num_experts, int* table, int table_ints) {
    row_ints = num_experts | 1;
    const auto warp = static_cast<int>(threadIdx.x) / kWarpThreads;
    const int chunks = (count + kWarpThreads - 1) / kWarpThreads;
    num_warps = max(1, min(min(kDispatchThreads / kWarpThreads, chunks), table_ints / row_ints));
    const int each = (chunks + num_warps - 1) / num_warps * kWarpThreads;
    begin = warp < num_warps ? warp * each : count;
    end = min(begin + each, count);
    counts = table + warp * row_ints;
  }
};

/// Calls body(index, id, the lanes with the same id) for each of a warp's selections of an expert, 32 at a time, all
/// lanes together; `id` is -1 where there is none.
template <typename Body>
__device__ void warp_for_each_selection(const LowLatencyDispatchArgs& args, const SelectionShare& share,
                                        const Body& body) {
  for (int first = share.begin; first < share.end; first += kWarpThreads) {
    const int index = first + static_cast<int>(threadIdx.x % kWarpThreads);
    const int id = index < share.end ? thread_read_id(args.topk_idx, args.id_bytes, index) : -1;
    body(index, id, __match_any_sync(0xFFFFFFFFU, id));
    __syncwarp();
  }
}

/// Turns the counts of the warps into what comes before each warp, and tells every rank the sums. A warp takes an
/// expert, a lane a warp's count.
__device__ inline void block_sum_counts(const LowLatencyDispatchArgs& args, const BlockState& block,
                                        const SelectionShare& share, int* table, int* crowded) {
  const Slot slot(args.party, block.epoch);
  const int lane = static_cast<int>(threadIdx.x % kWarpThreads);
  for (int expert = static_cast<int>(threadIdx.x) / kWarpThreads; expert < args.num_experts;
       expert += kDispatchThreads / kWarpThreads) {
    int* const count = table + lane * share.row_ints + expert;
    const int own = lane < share.num_warps ? *count : 0;
    int sum = own;
#pragma unroll
    for (int distance = 1; distance < kWarpThreads; distance *= 2) {
      const int below = __shfl_up_sync(0xFFFFFFFFU, sum, distance);
      if (lane >= distance) sum += below;
    }
    if (lane < share.num_warps) *count = sum - own;
    const int all = __shfl_sync(0xFFFFFFFFU, sum, kWarpThreads - 1);
    for (int rank = lane; rank < args.party.num_ranks; rank += kWarpThreads) {
      slot.counts(args.party.rank, rank)[expert] = all;
    }
    if (lane == 0 && all > args.max_tokens) atomicMin(crowded, expert);
  }
}

/// One block counts the selections and says where each row will lie among its rank's rows for its expert. `table` has
/// room for `table_ints`, at least E + 1.
__device__ inline void block_count(const LowLatencyDispatchArgs& args, BlockState& block, int* table, int table_ints) {
  __shared__ int first_bad;
  __shared__ int crowded;
  constexpr int kNone = 0x7FFFFFFF;
  const SelectionShare share(static_cast<int>(args.num_tokens) * args.num_topk, args.num_experts, table, table_ints);
  const int lane = static_cast<int>(threadIdx.x % kWarpThreads);
  block_await_slot(args.party, block, kDispatchThreads - kMaxRanks);  // whose warps have the least to count
  for (int i = static_cast<int>(threadIdx.x); i < share.num_warps * share.row_ints; i += kDispatchThreads) table[i] = 0;
  if (threadIdx.x == 0) {
    first_bad = kNone;
    crowded = args.num_experts;
  }
  __syncthreads();
  warp_for_each_selection(args, share, [&](int index, int id, unsigned same) {
    if (id >= 0 && id < args.num_experts) {
      if (lane == __ffs(static_cast<int>(same)) - 1) share.counts[id] += __popc(same);
    } else if (id != -1) {
      atomicMin(&first_bad, index);
    }
  });
  if (block_fails(args.party, block)) return;
  block_sum_counts(args, block, share, table, &crowded);
  __syncthreads();
  const ParcelLayout parcel(args.num_tokens, args.hidden, args.cast, args.num_topk);
  auto* routes = reinterpret_cast<RouteEntry*>(args.parcel + parcel.routes(0));
  warp_for_each_selection(args, share, [&](int index, int id, unsigned same) {
    const bool is_expert = id >= 0 && id < args.num_experts;
    const unsigned before = same & ((1U << lane) - 1U);
    const int ordinal = is_expert ? share.counts[id] + __popc(before) : 0;
    __syncwarp();
    if (is_expert && before == 0) share.counts[id] += __popc(same);
    if (index < share.end) routes[index] = {is_expert ? id : -1, ordinal};
  });
  if (threadIdx.x != 0) return;
  OwnState& own = thread_own(args.party);
  if (first_bad != kNone) {
    own.obstacle = Obstacle::kBadId;
    own.detail[0] = first_bad;
    own.detail[1] = args.id_bytes == 4 ? reinterpret_cast<const int*>(args.topk_idx)[first_bad]
                                       : reinterpret_cast<const long long*>(args.topk_idx)[first_bad];
  } else if (crowded < args.num_experts) {
    own.obstacle = Obstacle::kTooManyRows;
    own.detail[0] = crowded;
  }
}

}  // namespace crossdock::cuda::device
