// How the rows of a combine are summed: where they are, by the rank whose tokens they are of.
#pragma once

#include <type_traits>

#include "backend/cuda/device/items.cuh"
#include "backend/cuda/device/ranks.cuh"
#include "backend/cuda/device/reduce.hpp"
#include "backend/cuda/device/row_access.cuh"
#include "backend/cuda/device/row_access.hpp"
#include "backend/cuda/device/sums.cuh"

namespace crossdock::cuda::device {

// With fewer multiprocessors the sums are bound by instructions: addresses are kept in registers, which is why a block
// has no more threads.
inline constexpr int kReduceThreads = 768;
inline constexpr int kReduceLoads = 8;   ///< contributions that a thread reads at once
inline constexpr int kReduceRounds = 7;  ///< accesses of a thread in a piece of a row, one after the other

/// One token's rows at 32 ranks, or of 32 selections, one to a lane.
struct LaneContribution {
  const std::byte* row;  ///< of this lane's rank, if it has one
  unsigned mask;         ///< lanes that have; the same in all lanes
};

// How the kernel finds the rows of a token. `contributors` lie in shared memory; those that do not take part, and those
// beyond the last, have x null.

/// A token has a row at each rank that it went to.
struct SummedOfRanks {
  using Place = int;  ///< row in the block of a rank, -1: none

  static __host__ __device__ int count(const ReduceArgs& args) { return args.num_ranks; }
  /// Any row for ranks beyond the last, which contribute nothing.
  static __device__ Place thread_find(const ReduceArgs& args, std::int64_t token, int rank) {
    return args.rows[token * args.num_ranks + min(rank, args.num_ranks - 1)];
  }
  static __device__ LaneContribution warp_find(const Contributor* contributors, int first_rank, Place row) {
    const Contributor& mine = contributors[first_rank + static_cast<int>(threadIdx.x % kWarpThreads)];
    const bool contributes = row >= 0 && mine.x != nullptr;
    return {contributes ? mine.x + row * mine.stride : nullptr, __ballot_sync(0xFFFFFFFFU, contributes)};
  }
  static __device__ void warp_reduce_weights(const ReduceArgs& args, const Contributor* contributors,
                                             std::int64_t token) {
    for (std::int64_t k = threadIdx.x % kWarpThreads; k < args.num_topk; k += kWarpThreads) {
      float sum[] = {0.0F};
      for (int rank = 0; rank < args.num_ranks; ++rank) {
        const std::int64_t row = thread_find(args, token, rank);
        if (row < 0 || contributors[rank].x == nullptr) continue;
        sum[0] = __fadd_rn(sum[0], contributors[rank].weights[row * args.num_topk + k]);
      }
      args.out_weights[token * args.num_topk + k] = __uint_as_float(Float32::thread_round(sum));
    }
  }
};

/// A token has a row for each selection; they are listed by ascending (rank, column).
struct SummedOfSelections {
  using Place = SelectionRow;

  static __host__ __device__ int count(const ReduceArgs& args) { return args.selections.num_topk; }
  static __device__ Place thread_find(const ReduceArgs& args, std::int64_t token, int entry) {
    return entry < count(args) ? args.selections.rows[token * count(args) + entry] : Place{-1, -1};
  }
  static __device__ LaneContribution warp_find(const Contributor* contributors, int /*first*/, const Place& place) {
    const Contributor& mine = contributors[max(place.rank, 0)];
    const bool contributes = place.rank >= 0 && mine.x != nullptr;
    return {contributes ? mine.x + place.row * mine.stride : nullptr, __ballot_sync(0xFFFFFFFFU, contributes)};
  }
  static __device__ void warp_reduce_weights(const ReduceArgs& args, const Contributor* contributors,
                                             std::int64_t token) {
    const std::int64_t begin = token * args.num_topk;
    for (int entry = static_cast<int>(threadIdx.x % kWarpThreads); entry < args.num_topk; entry += kWarpThreads) {
      const Place place = thread_find(args, token, entry);
      float sum[] = {0.0F};
      if (place.rank >= 0 && contributors[place.rank].x != nullptr) {
        sum[0] = __fadd_rn(sum[0], contributors[place.rank].weights[place.row]);
      }
      args.out_weights[begin + args.selections.columns[begin + entry]] = __uint_as_float(Float32::thread_round(sum));
    }
  }
};

/// The first contributions of some, in all lanes.
template <typename T>
struct RowSources {
  const T* rows[kReduceLoads];
  int count = 0;
};

/// Takes them out of `from`, from access `begin` of each on. Ascending lanes are ascending ranks.
template <typename T>
__device__ RowSources<T> warp_take_sources(LaneContribution& from, int begin) {
  RowSources<T> result;
  const int all = __popc(from.mask);
  result.count = all < kReduceLoads ? all : kReduceLoads;
#pragma unroll
  for (int i = 0; i < kReduceLoads; ++i) {
    if (i < result.count) {
      const int source = __ffs(static_cast<int>(from.mask)) - 1;
      const auto row = __shfl_sync(0xFFFFFFFFU, reinterpret_cast<unsigned long long>(from.row), source);
      result.rows[i] = reinterpret_cast<const T*>(row) + begin;
      from.mask &= from.mask - 1;
    }
  }
  return result;
}

/// Adds one access of each source; all are read before the first is added.
template <typename Type, typename T>
__device__ void thread_add(const RowSources<T>& sources, int index, Sums<Type, T>& sums) {
  T values[kReduceLoads];
#pragma unroll
  for (int i = 0; i < kReduceLoads; ++i) {
    if (i < sources.count) values[i] = thread_load(sources.rows[i] + index);
  }
#pragma unroll
  for (int i = 0; i < kReduceLoads; ++i) {
    if (i < sources.count) sums.add(values[i]);
  }
}

/// The same for all contributions; lanes beyond the end of the row only help.
template <typename Type, typename T>
__device__ void warp_add(LaneContribution from, int index, bool is_inside, Sums<Type, T>& sums) {
  while (from.mask != 0) {
    const RowSources<T> sources = warp_take_sources<T>(from, 0);
    if (is_inside) thread_add(sources, index, sums);
  }
}

template <typename T>
__device__ const T* row_at(const std::byte* base, std::int64_t stride, std::int64_t token) {
  return reinterpret_cast<const T*>(base + token * stride);
}

/// One piece of a token's row: kReduceRounds accesses of each lane. `from` are the first 32 contributions.
/// Without biases, and with no more contributions than are read at once: what most calls are.
template <typename Type, typename T>
__device__ void warp_reduce_few(const ReduceArgs& args, LaneContribution from, std::int64_t token, int piece) {
  const int count = static_cast<int>(args.hidden / Sums<Type, T>::kElements);
  const int begin = piece * (kReduceRounds * kWarpThreads) + static_cast<int>(threadIdx.x % kWarpThreads);
  const RowSources<T> sources = warp_take_sources<T>(from, begin);
  auto* out = reinterpret_cast<T*>(args.out) + token * count + begin;
#pragma unroll 1
  for (int index = 0; index < kReduceRounds * kWarpThreads && begin + index < count; index += kWarpThreads) {
    Sums<Type, T> sums;
    thread_add(sources, index, sums);
    thread_store(out + index, sums.rounded());
  }
}

/// The same with biases and any number of contributions.
template <typename Rows, typename Type, typename T>
__device__ void warp_reduce_any(const ReduceArgs& args, const Contributor* contributors, LaneContribution from,
                                std::int64_t token, int piece) {
  const int count = static_cast<int>(args.hidden / Sums<Type, T>::kElements);
  const RowSources<T> first = warp_take_sources<T>(from, 0);
  auto* out = reinterpret_cast<T*>(args.out) + token * count;
  int index = piece * (kReduceRounds * kWarpThreads) + static_cast<int>(threadIdx.x % kWarpThreads);
#pragma unroll 1
  for (int round = 0; round < kReduceRounds; ++round, index += kWarpThreads) {
    const bool is_inside = index < count;
    Sums<Type, T> sums;
    if (args.bias_0 != nullptr && is_inside) sums.add(row_at<T>(args.bias_0, args.bias_0_stride, token)[index]);
    if (args.bias_1 != nullptr && is_inside) sums.add(row_at<T>(args.bias_1, args.bias_1_stride, token)[index]);
    if (is_inside) thread_add(first, index, sums);
    warp_add(from, index, is_inside, sums);
    for (int next = kWarpThreads; next < Rows::count(args); next += kWarpThreads) {
      const auto place = Rows::thread_find(args, token, next + static_cast<int>(threadIdx.x % kWarpThreads));
      warp_add(Rows::warp_find(contributors, next, place), index, is_inside, sums);
    }
    if (is_inside) thread_store(out + index, sums.rounded());
  }
}

/// A warp's piece of work is a piece of a token's row. The last piece of each token is its weights.
template <typename Rows, typename Type, typename T, bool kFew, typename Table>
__device__ void grid_reduce(const ReduceArgs& args, const Table& table) {
  __shared__ Contributor contributors[kMaxRanks];
  if (table.is_failed != 0) return;
  for (int rank = static_cast<int>(threadIdx.x); rank < kMaxRanks; rank += kReduceThreads) {
    contributors[rank].x = nullptr;
    if (thread_takes_part(table.ranks, rank)) contributors[rank] = table.contributor(rank);
  }
  __syncthreads();
  constexpr int kPieceElements = kReduceRounds * kWarpThreads * Sums<Type, T>::kElements;
  const int row_pieces = static_cast<int>((args.hidden + kPieceElements - 1) / kPieceElements);
  const int pieces = row_pieces + (args.num_topk > 0 ? 1 : 0);
  const int lane = static_cast<int>(threadIdx.x % kWarpThreads);
  WarpItem item(args.num_tokens, pieces);
  typename Rows::Place place{};
  if (item.is_valid()) place = Rows::thread_find(args, item.token(), lane);
  for (; item.is_valid(); item.step()) {
    const LaneContribution from = Rows::warp_find(contributors, 0, place);
    if (const WarpItem next = item.next(); next.is_valid()) place = Rows::thread_find(args, next.token(), lane);
    if (item.piece() == row_pieces) {
      Rows::warp_reduce_weights(args, contributors, item.token());
    } else if constexpr (kFew) {
      warp_reduce_few<Type, T>(args, from, item.token(), item.piece());
    } else {
      warp_reduce_any<Rows, Type, T>(args, contributors, from, item.token(), item.piece());
    }
  }
}

/// Bytes of the widest access that suits what a thread reads and writes; `rows` is that of all contributors' rows.
[[nodiscard]] inline int access_bytes_of(const ReduceArgs& args, int rows) {
  const std::uint64_t element = args.element == Element::kBfloat16 ? 2 : 4;
  return access_bytes({static_cast<std::uint64_t>(args.hidden) * element, reinterpret_cast<std::uint64_t>(args.out),
                       reinterpret_cast<std::uint64_t>(args.bias_0), reinterpret_cast<std::uint64_t>(args.bias_1),
                       static_cast<std::uint64_t>(args.bias_0_stride), static_cast<std::uint64_t>(args.bias_1_stride),
                       static_cast<std::uint64_t>(rows)});
}

/// Calls body(how elements are summed, a value of the access type, std::bool_constant: grid_reduce's kFew).
template <typename Body>
void with_sums(Element element, int bytes, bool is_few, const Body& body) {
  with_access(bytes, [&](auto access) {
    const auto with_type = [&](auto type) {
      if constexpr (sizeof(access) >= decltype(type)::kBytes) {
        is_few ? body(type, access, std::true_type()) : body(type, access, std::false_type());
      }
    };
    element == Element::kBfloat16 ? with_type(Bfloat16()) : with_type(Float32());
  });
}

/// The same for each combination; `body` returns a cudaError_t, and the first that is none is returned.
template <typename Body>
[[nodiscard]] cudaError_t for_each_sum(const Body& body) {
  cudaError_t error = cudaSuccess;
  for (const Element element : {Element::kBfloat16, Element::kFloat32}) {
    for (const int bytes : {16, 8, 4, 2, 1}) {
      for (const bool is_few : {true, false}) {
        with_sums(element, bytes, is_few, [&](auto type, auto access, auto few) {
          if (error == cudaSuccess) error = body(type, access, few);
        });
      }
    }
  }
  return error;
}

/// Is grid_reduce to be called with kFew?
template <typename Rows>
[[nodiscard]] bool has_few(const ReduceArgs& args) {
  return Rows::count(args) <= kReduceLoads && args.bias_0 == nullptr;
}

}  // namespace crossdock::cuda::device
