// The rows of a low-latency combine: how they are staged, and how a token's are found and summed.
#pragma once

#include "backend/cuda/device/items.cuh"
#include "backend/cuda/device/low_latency_combine.hpp"
#include "backend/cuda/device/party.cuh"
#include "backend/cuda/device/row_access.cuh"
#include "backend/cuda/device/sums.cuh"

namespace crossdock::cuda::device {

// Addresses and rows that are on their way are kept in registers, which is why a block has no more threads.
inline constexpr int kCombineThreads = 768;
inline constexpr int kReduceLoads = 8;   ///< rows that a thread reads at once
inline constexpr int kCombineLoads = 4;  ///< accesses of a lane that are staged at once

/// The used rows of x, expert after expert.
class UsedRows {
 public:
  /// All threads. `ends`, in shared memory, has room for L ints.
  __device__ UsedRows(const LowLatencyCombineArgs& args, int* ends) : args_(args), ends_(ends) {
    if (threadIdx.x == 0) {
      int end = 0;
      for (int expert = 0; expert < args.num_local; ++expert) ends[expert] = end += args.count[expert];
    }
    __syncthreads();
  }

  [[nodiscard]] __device__ int count() const { return args_.num_local > 0 ? ends_[args_.num_local - 1] : 0; }
  /// Of x, where the row is that is `packed` among the used ones.
  [[nodiscard]] __device__ const std::byte* row(int packed) const {
    int expert = 0;
    for (int above = args_.num_local - 1; expert < above;) {
      const int middle = (expert + above) / 2;
      if (packed < ends_[middle]) {
        above = middle;
      } else {
        expert = middle + 1;
      }
    }
    const int row = packed - (expert > 0 ? ends_[expert - 1] : 0);
    return args_.x + (expert * args_.party.num_ranks * args_.max_tokens + row) * 2 * args_.hidden;
  }

 private:
  const LowLatencyCombineArgs& args_;
  const int* ends_;
};

/// All threads. Copies the used rows of x. `ends` has room for L ints.
template <typename T>
__device__ void grid_stage(const LowLatencyCombineArgs& args, int* ends) {
  const UsedRows used(args, ends);
  const std::int64_t count = args.row_bytes / static_cast<std::int64_t>(sizeof(T));
  const int pieces = static_cast<int>((count + kCombineLoads * kWarpThreads - 1) / (kCombineLoads * kWarpThreads));
  for (WarpItem item(used.count(), pieces); item.is_valid(); item.step()) {
    const auto packed = static_cast<int>(item.token());
    const auto* from = reinterpret_cast<const T*>(used.row(packed));
    auto* to = reinterpret_cast<T*>(args.parcel + ParcelHeader::kBytes + packed * args.row_bytes);
    const LanePiece<kCombineLoads> piece(item.piece(), count);
    T values[kCombineLoads];
    piece.for_each([&](int i, std::int64_t at) { values[i] = thread_load(from + at); });
    piece.for_each([&](int i, std::int64_t at) { to[at] = values[i]; });
  }
}

/// Where the ranks' rows lie. In shared memory.
struct Contributions {
  const std::byte* rows[kMaxRanks];
  bool are_packed[kMaxRanks];
};

/// The row of one selection, null if it has none, and its weight.
struct LaneRow {
  const std::byte* row;
  float weight;
};

__device__ inline LaneRow thread_find_row(const LowLatencyCombineArgs& args, const BlockState& block,
                                          const Contributions& contributions, std::int64_t token, int column) {
  if (column >= args.num_topk) return {nullptr, 0.0F};
  const std::int64_t index = token * args.num_topk + column;
  const Place place = args.places[index];
  const float weight = args.weights[index];
  if (place.owner < 0 || thread_is_masked(block, place.owner)) return {nullptr, 0.0F};
  const std::int64_t row = contributions.are_packed[place.owner] ? place.packed_row : place.row;
  return {contributions.rows[place.owner] + row * args.row_bytes, weight};
}

/// One access of each lane: adds what the selections that the lanes hold have there, in their order.
template <typename T>
__device__ void warp_add(const LaneRow& mine, int index, bool is_inside, Sums<Bfloat16, T>& sums) {
  unsigned left = __ballot_sync(0xFFFFFFFFU, mine.row != nullptr);
  while (left != 0) {
    T values[kReduceLoads];
    float weights[kReduceLoads];
    int count = 0;
#pragma unroll
    for (int i = 0; i < kReduceLoads; ++i) {
      if (left != 0) {
        const int lane = __ffs(static_cast<int>(left)) - 1;
        left &= left - 1;
        const auto row = __shfl_sync(0xFFFFFFFFU, reinterpret_cast<unsigned long long>(mine.row), lane);
        weights[i] = __shfl_sync(0xFFFFFFFFU, mine.weight, lane);
        if (is_inside) values[i] = thread_load(reinterpret_cast<const T*>(row) + index);
        ++count;
      }
    }
#pragma unroll
    for (int i = 0; i < kReduceLoads; ++i) {
      if (i < count && is_inside) sums.add_weighted(values[i], weights[i]);
    }
  }
}

/// A warp's piece of work is `rounds` accesses of each lane to a token's row.
template <typename T>
__device__ void grid_reduce(const LowLatencyCombineArgs& args, const BlockState& block,
                            const Contributions& contributions, int rounds) {
  const int count = static_cast<int>(args.hidden / Sums<Bfloat16, T>::kElements);
  const int pieces = (count + rounds * kWarpThreads - 1) / (rounds * kWarpThreads);
  const int lane = static_cast<int>(threadIdx.x % kWarpThreads);
  WarpItem item(args.num_tokens, pieces);
  LaneRow mine{nullptr, 0.0F};
  if (item.is_valid()) mine = thread_find_row(args, block, contributions, item.token(), lane);
  for (; item.is_valid(); item.step()) {
    const LaneRow now = mine;
    if (const WarpItem next = item.next(); next.is_valid()) {
      mine = thread_find_row(args, block, contributions, next.token(), lane);
    }
    auto* out = reinterpret_cast<T*>(args.out) + item.token() * count;
    int index = item.piece() * rounds * kWarpThreads + lane;
#pragma unroll 1
    for (int round = 0; round < rounds; ++round, index += kWarpThreads) {
      const bool is_inside = index < count;
      Sums<Bfloat16, T> sums;
      warp_add(now, index, is_inside, sums);
      for (int column = kWarpThreads; column < args.num_topk; column += kWarpThreads) {
        warp_add(thread_find_row(args, block, contributions, item.token(), column + lane), index, is_inside, sums);
      }
      if (is_inside) thread_store(out + index, sums.rounded());
    }
  }
}

/// Rows as they are. T is how they are read, U how they are staged.
template <typename T, typename U>
struct PlainRows {
  static __device__ void stage(const LowLatencyCombineArgs& args, int* ends) { grid_stage<U>(args, ends); }
  static __device__ void reduce(const LowLatencyCombineArgs& args, const BlockState& block,
                                const Contributions& contributions, int rounds) {
    grid_reduce<T>(args, block, contributions, rounds);
  }
};

}  // namespace crossdock::cuda::device
