#include "backend/cuda/device/completion.cuh"
#include "backend/cuda/device/items.cuh"
#include "backend/cuda/device/ranks.cuh"
#include "backend/cuda/device/reduce.hpp"
#include "backend/cuda/device/row_access.cuh"
#include "backend/cuda/device/row_access.hpp"
#include "backend/cuda/device/sums.cuh"

namespace crossdock::cuda::device {

namespace {

// With fewer multiprocessors the sums are bound by instructions: addresses are kept in registers, which is why a block
// has no more threads.
constexpr int kThreads = 768;
constexpr int kLoads = 8;   ///< contributions that a thread reads at once
constexpr int kRounds = 7;  ///< accesses of a thread in a piece of a row, one after the other
constexpr unsigned kAllLanes = 0xFFFFFFFFU;

/// One token's rows at 32 ranks, or of 32 selections, one to a lane.
struct LaneContribution {
  const std::byte* row;  ///< of this lane's rank, if it has one
  unsigned mask;         ///< lanes that have; the same in all lanes
};

// How the kernel finds the rows of a token. `contributors` lie in shared memory; those that do not take part, and those
// beyond the last, have x null.

/// A token has a row at each rank that it went to.
struct RankRows {
  using Place = int;  ///< row in the block of a rank, -1: none

  static __host__ __device__ int count(const ReduceArgs& args) { return args.num_ranks; }
  /// Any row for ranks beyond the last, which contribute nothing.
  static __device__ Place thread_find(const ReduceArgs& args, std::int64_t token, int rank) {
    return args.rows[token * args.num_ranks + min(rank, args.num_ranks - 1)];
  }
  static __device__ LaneContribution warp_find(const Contributor* contributors, int first_rank, Place row) {
    const Contributor& mine = contributors[first_rank + static_cast<int>(threadIdx.x % kWarpThreads)];
    const bool contributes = row >= 0 && mine.x != nullptr;
    return {contributes ? mine.x + row * mine.stride : nullptr, __ballot_sync(kAllLanes, contributes)};
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
struct SelectionRows {
  using Place = SelectionRow;

  static __host__ __device__ int count(const ReduceArgs& args) { return args.selections.num_topk; }
  static __device__ Place thread_find(const ReduceArgs& args, std::int64_t token, int entry) {
    return entry < count(args) ? args.selections.rows[token * count(args) + entry] : Place{-1, -1};
  }
  static __device__ LaneContribution warp_find(const Contributor* contributors, int /*first*/, const Place& place) {
    const Contributor& mine = contributors[max(place.rank, 0)];
    const bool contributes = place.rank >= 0 && mine.x != nullptr;
    return {contributes ? mine.x + place.row * mine.stride : nullptr, __ballot_sync(kAllLanes, contributes)};
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
struct Sources {
  const T* rows[kLoads];
  int count = 0;
};

/// Takes them out of `from`, from access `begin` of each on. Ascending lanes are ascending ranks.
template <typename T>
__device__ Sources<T> warp_take_sources(LaneContribution& from, int begin) {
  Sources<T> result;
  const int all = __popc(from.mask);
  result.count = all < kLoads ? all : kLoads;
#pragma unroll
  for (int i = 0; i < kLoads; ++i) {
    if (i < result.count) {
      const int source = __ffs(static_cast<int>(from.mask)) - 1;
      const auto row = __shfl_sync(kAllLanes, reinterpret_cast<unsigned long long>(from.row), source);
      result.rows[i] = reinterpret_cast<const T*>(row) + begin;
      from.mask &= from.mask - 1;
    }
  }
  return result;
}

/// Adds one access of each source; all are read before the first is added.
template <typename Type, typename T>
__device__ void thread_add(const Sources<T>& sources, int index, Sums<Type, T>& sums) {
  T values[kLoads];
#pragma unroll
  for (int i = 0; i < kLoads; ++i) {
    if (i < sources.count) values[i] = thread_load(sources.rows[i] + index);
  }
#pragma unroll
  for (int i = 0; i < kLoads; ++i) {
    if (i < sources.count) sums.add(values[i]);
  }
}

/// The same for all contributions; lanes beyond the end of the row only help.
template <typename Type, typename T>
__device__ void warp_add(LaneContribution from, int index, bool is_inside, Sums<Type, T>& sums) {
  while (from.mask != 0) {
    const Sources<T> sources = warp_take_sources<T>(from, 0);
    if (is_inside) thread_add(sources, index, sums);
  }
}

template <typename T>
__device__ const T* row_at(const std::byte* base, std::int64_t stride, std::int64_t token) {
  return reinterpret_cast<const T*>(base + token * stride);
}

/// One piece of a token's row: kRounds accesses of each lane. `from` are the first 32 contributions.
/// Without biases, and with no more contributions than are read at once: what most calls are.
template <typename Type, typename T>
__device__ void warp_reduce_few(const ReduceArgs& args, LaneContribution from, std::int64_t token, int piece) {
  const int count = static_cast<int>(args.hidden / Sums<Type, T>::kElements);
  const int begin = piece * (kRounds * kWarpThreads) + static_cast<int>(threadIdx.x % kWarpThreads);
  const Sources<T> sources = warp_take_sources<T>(from, begin);
  auto* out = reinterpret_cast<T*>(args.out) + token * count + begin;
#pragma unroll 1
  for (int index = 0; index < kRounds * kWarpThreads && begin + index < count; index += kWarpThreads) {
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
  const Sources<T> first = warp_take_sources<T>(from, 0);
  auto* out = reinterpret_cast<T*>(args.out) + token * count;
  int index = piece * (kRounds * kWarpThreads) + static_cast<int>(threadIdx.x % kWarpThreads);
#pragma unroll 1
  for (int round = 0; round < kRounds; ++round, index += kWarpThreads) {
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
template <typename Rows, typename Type, typename T, bool kFew>
__global__ void __launch_bounds__(kThreads, 1) reduce_kernel(const __grid_constant__ ReduceArgs args) {
  __shared__ Contributor contributors[kMaxRanks];
  if (args.table != nullptr && args.table->is_failed != 0) return;
  const Contributor* const all = args.table != nullptr ? args.table->contributors : args.contributors;
  const std::uint64_t ranks = args.table != nullptr ? args.table->ranks : args.ranks;
  for (int rank = static_cast<int>(threadIdx.x); rank < kMaxRanks; rank += kThreads) {
    contributors[rank] = all[rank];
    if (!thread_takes_part(ranks, rank)) contributors[rank].x = nullptr;
  }
  __syncthreads();
  constexpr int kPieceElements = kRounds * kWarpThreads * Sums<Type, T>::kElements;
  const int row_pieces = static_cast<int>((args.hidden + kPieceElements - 1) / kPieceElements);
  const int pieces = row_pieces + (args.num_topk > 0 ? 1 : 0);
  const int lane = static_cast<int>(threadIdx.x % kWarpThreads);
  WarpItem item(args.num_tokens, pieces, kThreads);
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
  block_complete(args.completion);
}

/// Of what every thread reads and writes.
int access_bytes_of(const ReduceArgs& args) {
  const std::uint64_t element = args.element == Element::kBfloat16 ? 2 : 4;
  int bytes =
      access_bytes({static_cast<std::uint64_t>(args.hidden) * element, reinterpret_cast<std::uint64_t>(args.out),
                    reinterpret_cast<std::uint64_t>(args.bias_0), reinterpret_cast<std::uint64_t>(args.bias_1),
                    static_cast<std::uint64_t>(args.bias_0_stride), static_cast<std::uint64_t>(args.bias_1_stride),
                    static_cast<std::uint64_t>(args.row_access)});
  for (int rank = 0; args.table == nullptr && rank < args.num_ranks; ++rank) {
    if ((args.ranks >> static_cast<unsigned>(rank) & 1U) == 0) continue;  // what a masked rank said last
    const Contributor& from = args.contributors[rank];
    bytes = access_bytes({static_cast<std::uint64_t>(bytes), reinterpret_cast<std::uint64_t>(from.x),
                          static_cast<std::uint64_t>(from.stride)});
  }
  return bytes;
}

template <typename Rows, typename Type, typename T>
void launch_with(const ReduceArgs& args, int num_sms, cudaStream_t stream) {
  const auto grid = static_cast<unsigned>(num_sms);
  if (Rows::count(args) <= kLoads && args.bias_0 == nullptr) {
    reduce_kernel<Rows, Type, T, true><<<grid, kThreads, 0, stream>>>(args);
  } else {
    reduce_kernel<Rows, Type, T, false><<<grid, kThreads, 0, stream>>>(args);
  }
}

template <typename Type, typename T>
void launch(const ReduceArgs& args, int num_sms, cudaStream_t stream) {
  if (args.selections.rows != nullptr) {
    launch_with<SelectionRows, Type, T>(args, num_sms, stream);
  } else {
    launch_with<RankRows, Type, T>(args, num_sms, stream);
  }
}

template <typename Rows, typename Type, typename T>
cudaError_t load_with(cudaFuncAttributes& attributes) {
  const cudaError_t error = cudaFuncGetAttributes(&attributes, reduce_kernel<Rows, Type, T, true>);
  return error == cudaSuccess ? cudaFuncGetAttributes(&attributes, reduce_kernel<Rows, Type, T, false>) : error;
}

template <typename Type, typename T>
cudaError_t load(cudaFuncAttributes& attributes) {
  const cudaError_t error = load_with<RankRows, Type, T>(attributes);
  return error == cudaSuccess ? load_with<SelectionRows, Type, T>(attributes) : error;
}

}  // namespace

cudaError_t load_reduce() {
  return load_each_access([](auto access, cudaFuncAttributes& attributes) {
    using T = decltype(access);
    cudaError_t error = cudaSuccess;
    if constexpr (sizeof(T) >= Bfloat16::kBytes) error = load<Bfloat16, T>(attributes);
    if constexpr (sizeof(T) >= Float32::kBytes) {
      if (error == cudaSuccess) error = load<Float32, T>(attributes);
    }
    return error;
  });
}

cudaError_t launch_reduce(const ReduceArgs& args, int num_sms, cudaStream_t stream) {
  with_access(access_bytes_of(args), [&](auto access) {
    using T = decltype(access);
    if constexpr (sizeof(T) >= Bfloat16::kBytes) {
      if (args.element == Element::kBfloat16) launch<Bfloat16, T>(args, num_sms, stream);
    }
    if constexpr (sizeof(T) >= Float32::kBytes) {
      if (args.element == Element::kFloat32) launch<Float32, T>(args, num_sms, stream);
    }
  });
  return cudaGetLastError();
}

}  // namespace crossdock::cuda::device
