#include "backend/cuda/device/completion.cuh"
#include "backend/cuda/device/ranks.cuh"
#include "backend/cuda/device/reduce.hpp"
#include "backend/cuda/device/row_access.cuh"
#include "backend/cuda/device/row_access.hpp"

namespace crossdock::cuda::device {

namespace {

constexpr int kThreads = 1024;
constexpr int kLoads = 8;   ///< contributions that a thread reads at once
constexpr int kRounds = 4;  ///< accesses of a thread in a piece of a row, one after the other
constexpr unsigned kAllLanes = 0xFFFFFFFFU;
constexpr unsigned kFloat32Nan = 0x7FC00000U;
constexpr unsigned short kBfloat16Nan = 0x7FC0U;

struct Float32 {
  using Bits = unsigned int;
  static __device__ float widen(Bits bits) { return __uint_as_float(bits); }
  static __device__ Bits narrow(float sum) { return sum != sum ? kFloat32Nan : __float_as_uint(sum); }
};

/// bfloat16 as base/bfloat16.hpp defines it.
struct Bfloat16 {
  using Bits = unsigned short;
  static __device__ float widen(Bits bits) { return __uint_as_float(static_cast<unsigned>(bits) << 16U); }
  static __device__ Bits narrow(float sum) {
    if (sum != sum) return kBfloat16Nan;
    const unsigned bits = __float_as_uint(sum);
    return static_cast<Bits>((bits + 0x7FFFU + ((bits >> 16U) & 1U)) >> 16U);
  }
};

/// The elements of one access.
template <typename Type, typename T>
union Elements {
  static constexpr int kCount = static_cast<int>(sizeof(T) / sizeof(typename Type::Bits));
  T access;
  typename Type::Bits bits[kCount];
};

/// Sums of one access, by one thread.
template <typename Type, typename T>
class Sums {
 public:
  using Values = Elements<Type, T>;

  __device__ void add(const T& access) {
    Values values;
    values.access = access;
#pragma unroll
    for (int i = 0; i < Values::kCount; ++i) sums_[i] = __fadd_rn(sums_[i], Type::widen(values.bits[i]));
  }
  [[nodiscard]] __device__ T rounded() const {
    Values values;
#pragma unroll
    for (int i = 0; i < Values::kCount; ++i) values.bits[i] = Type::narrow(sums_[i]);
    return values.access;
  }

 private:
  float sums_[Values::kCount] = {};
};

/// One token's rows at 32 ranks, one to a lane.
struct LaneContribution {
  const std::byte* row;  ///< of this lane's rank, if it has one
  unsigned mask;         ///< lanes that have; the same in all lanes
};

__device__ LaneContribution warp_find_contributions(const ReduceArgs& args, const Contributor* contributors,
                                                    std::int64_t token, int first_rank) {
  const int rank = first_rank + static_cast<int>(threadIdx.x % kWarpThreads);
  const std::int64_t row = thread_takes_part(args.ranks, rank) ? args.rows[token * args.num_ranks + rank] : -1;
  const std::byte* at = row < 0 ? nullptr : contributors[rank].x + row * contributors[rank].stride;
  return {at, __ballot_sync(kAllLanes, row >= 0)};
}

/// Adds access `index` of all contributions; lanes beyond the end of the row only help. Ascending lanes are ascending
/// ranks.
template <typename Type, typename T>
__device__ void warp_add(const LaneContribution& from, std::int64_t index, bool is_inside, Sums<Type, T>& sums) {
  for (unsigned left = from.mask; left != 0;) {
    T values[kLoads];
    int count = 0;
#pragma unroll
    for (int i = 0; i < kLoads; ++i) {
      if (left == 0) break;
      const int source = __ffs(static_cast<int>(left)) - 1;
      left &= left - 1;
      const auto row = __shfl_sync(kAllLanes, reinterpret_cast<unsigned long long>(from.row), source);
      if (is_inside) values[i] = thread_load(reinterpret_cast<const T*>(row) + index);
      ++count;
    }
#pragma unroll
    for (int i = 0; i < kLoads; ++i) {
      if (i < count && is_inside) sums.add(values[i]);
    }
  }
}

template <typename T>
__device__ const T* row_at(const std::byte* base, std::int64_t stride, std::int64_t token) {
  return reinterpret_cast<const T*>(base + token * stride);
}

/// One piece of a token's row: kRounds accesses of each lane.
template <typename Type, typename T>
__device__ void warp_reduce_piece(const ReduceArgs& args, const Contributor* contributors, std::int64_t token,
                                  std::int64_t piece) {
  const std::int64_t count = args.hidden / Elements<Type, T>::kCount;
  const LaneContribution first = warp_find_contributions(args, contributors, token, 0);
  auto* out = reinterpret_cast<T*>(args.out) + token * count;
  std::int64_t index = piece * (kRounds * kWarpThreads) + threadIdx.x % kWarpThreads;
  for (int round = 0; round < kRounds; ++round, index += kWarpThreads) {
    const bool is_inside = index < count;
    Sums<Type, T> sums;
    if (args.bias_0 != nullptr && is_inside) sums.add(row_at<T>(args.bias_0, args.bias_0_stride, token)[index]);
    if (args.bias_1 != nullptr && is_inside) sums.add(row_at<T>(args.bias_1, args.bias_1_stride, token)[index]);
    warp_add(first, index, is_inside, sums);
    for (int rank = kWarpThreads; rank < args.num_ranks; rank += kWarpThreads) {
      warp_add(warp_find_contributions(args, contributors, token, rank), index, is_inside, sums);
    }
    if (is_inside) thread_store(out + index, sums.rounded());
  }
}

__device__ void warp_reduce_weights(const ReduceArgs& args, const Contributor* contributors, std::int64_t token) {
  const std::int32_t* rows = args.rows + token * args.num_ranks;
  for (std::int64_t k = threadIdx.x % kWarpThreads; k < args.num_topk; k += kWarpThreads) {
    float sum = 0.0F;
    for (int rank = 0; rank < args.num_ranks; ++rank) {
      const std::int64_t row = thread_takes_part(args.ranks, rank) ? rows[rank] : -1;
      if (row >= 0) sum = __fadd_rn(sum, contributors[rank].weights[row * args.num_topk + k]);
    }
    args.out_weights[token * args.num_topk + k] = __uint_as_float(Float32::narrow(sum));
  }
}

/// A warp's piece of work is a piece of a token's row. The last piece of each token is its weights.
template <typename Type, typename T>
__global__ void __launch_bounds__(kThreads, 1) reduce_kernel(const __grid_constant__ ReduceArgs args) {
  __shared__ Contributor contributors[kMaxRanks];
  for (int rank = static_cast<int>(threadIdx.x); rank < args.num_ranks; rank += kThreads) {
    contributors[rank] = args.contributors[rank];
  }
  __syncthreads();
  const std::int64_t piece_elements = static_cast<std::int64_t>(kRounds) * kWarpThreads * Elements<Type, T>::kCount;
  const std::int64_t row_pieces = (args.hidden + piece_elements - 1) / piece_elements;
  const std::int64_t pieces = row_pieces + (args.num_topk > 0 ? 1 : 0);
  const std::int64_t items = args.num_tokens * pieces;
  const std::int64_t num_warps = static_cast<std::int64_t>(gridDim.x) * (kThreads / kWarpThreads);
  const std::int64_t warp =
      static_cast<std::int64_t>(blockIdx.x) * (kThreads / kWarpThreads) + threadIdx.x / kWarpThreads;
  for (std::int64_t item = warp; item < items; item += num_warps) {
    const std::int64_t token = item / pieces;
    const std::int64_t piece = item % pieces;
    if (piece < row_pieces) {
      warp_reduce_piece<Type, T>(args, contributors, token, piece);
    } else {
      warp_reduce_weights(args, contributors, token);
    }
  }
  if (block_is_last(args.completion.blocks_ended)) thread_complete(args.completion);
}

/// Of what every thread reads and writes.
int access_bytes_of(const ReduceArgs& args) {
  const std::uint64_t element = args.element == Element::kBfloat16 ? 2 : 4;
  int bytes =
      access_bytes({static_cast<std::uint64_t>(args.hidden) * element, reinterpret_cast<std::uint64_t>(args.out),
                    reinterpret_cast<std::uint64_t>(args.bias_0), reinterpret_cast<std::uint64_t>(args.bias_1),
                    static_cast<std::uint64_t>(args.bias_0_stride), static_cast<std::uint64_t>(args.bias_1_stride)});
  for (int rank = 0; rank < args.num_ranks; ++rank) {
    const Contributor& from = args.contributors[rank];
    bytes = access_bytes({static_cast<std::uint64_t>(bytes), reinterpret_cast<std::uint64_t>(from.x),
                          static_cast<std::uint64_t>(from.stride)});
  }
  return bytes;
}

}  // namespace

cudaError_t launch_reduce(const ReduceArgs& args, int num_sms, cudaStream_t stream) {
  with_access(access_bytes_of(args), [&](auto access) {
    using T = decltype(access);
    const auto grid = static_cast<unsigned>(num_sms);
    if constexpr (sizeof(T) >= sizeof(Bfloat16::Bits)) {
      if (args.element == Element::kBfloat16) reduce_kernel<Bfloat16, T><<<grid, kThreads, 0, stream>>>(args);
    }
    if constexpr (sizeof(T) >= sizeof(Float32::Bits)) {
      if (args.element == Element::kFloat32) reduce_kernel<Float32, T><<<grid, kThreads, 0, stream>>>(args);
    }
  });
  return cudaGetLastError();
}

}  // namespace crossdock::cuda::device
