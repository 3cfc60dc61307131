#include "backend/cuda/device/completion.cuh"
#include "backend/cuda/device/ranks.cuh"
#include "backend/cuda/device/row_access.cuh"
#include "backend/cuda/device/row_access.hpp"
#include "backend/cuda/device/send.hpp"

namespace crossdock::cuda::device {

namespace {

constexpr int kThreads = 1024;
constexpr int kLoads = 4;  ///< of a thread that are in flight at once
constexpr unsigned kAllLanes = 0xFFFFFFFFU;

/// The destinations of one token among 32 ranks, one to a lane.
struct LaneDestination {
  int row;        ///< of this lane's rank, -1: the token does not go there
  unsigned mask;  ///< lanes whose rank gets the token; the same in all lanes
};

__device__ LaneDestination warp_find_destinations(const SendArgs& args, std::int64_t token, int first_rank) {
  const int rank = first_rank + static_cast<int>(threadIdx.x % kWarpThreads);
  const int row = thread_takes_part(args.ranks, rank) ? args.rows[token * args.num_ranks + rank] : -1;
  return {row, __ballot_sync(kAllLanes, row >= 0)};
}

/// One piece of a row: kLoads accesses of each lane.
template <typename T>
__device__ void warp_send_piece(const SendArgs& args, const Destination* destinations, std::int64_t token,
                                std::int64_t piece) {
  const int lane = static_cast<int>(threadIdx.x % kWarpThreads);
  const std::int64_t count = args.row_bytes / static_cast<std::int64_t>(sizeof(T));
  const std::int64_t begin = piece * (kLoads * kWarpThreads) + lane;
  const auto* from = reinterpret_cast<const T*>(args.x + token * args.x_stride);
  T values[kLoads];
#pragma unroll
  for (int i = 0; i < kLoads; ++i) {
    if (begin + i * kWarpThreads < count) values[i] = thread_load(from + begin + i * kWarpThreads);
  }
  for (int first_rank = 0; first_rank < args.num_ranks; first_rank += kWarpThreads) {
    const LaneDestination to = warp_find_destinations(args, token, first_rank);
    for (unsigned left = to.mask; left != 0; left &= left - 1) {
      const int source = __ffs(static_cast<int>(left)) - 1;
      const std::int64_t row = __shfl_sync(kAllLanes, to.row, source);
      auto* out = reinterpret_cast<T*>(destinations[first_rank + source].x + row * args.row_bytes);
#pragma unroll
      for (int i = 0; i < kLoads; ++i) {
        if (begin + i * kWarpThreads < count) thread_store(out + begin + i * kWarpThreads, values[i]);
      }
    }
  }
}

template <typename Id>
__device__ void warp_send_topk(const SendArgs& args, const Destination& to, std::int64_t token, std::int64_t row) {
  const auto* ids = reinterpret_cast<const Id*>(args.topk_idx) + token * args.num_topk;
  const float* weights = args.topk_weights + token * args.num_topk;
  auto* ids_out = reinterpret_cast<Id*>(to.topk_idx) + row * args.num_topk;
  float* weights_out = to.topk_weights + row * args.num_topk;
  for (int k = static_cast<int>(threadIdx.x % kWarpThreads); k < args.num_topk; k += kWarpThreads) {
    const Id local = ids[k] - to.expert_begin;
    const bool is_local = local >= 0 && local < to.expert_count;
    ids_out[k] = is_local ? local : Id{-1};
    weights_out[k] = is_local ? weights[k] : 0.0F;
  }
}

template <typename T>
__device__ void warp_send_scales(const SendArgs& args, const Destination& to, std::int64_t token, std::int64_t row) {
  const std::byte* from = args.scales + token * args.scale_row_stride;
  auto* out = reinterpret_cast<T*>(to.scales) + row * args.num_scales;
  for (int s = static_cast<int>(threadIdx.x % kWarpThreads); s < args.num_scales; s += kWarpThreads) {
    out[s] = *reinterpret_cast<const T*>(from + s * args.scale_column_stride);
  }
}

/// What travels with one row to one destination.
__device__ void warp_send_extras(const SendArgs& args, const Destination& to, std::int64_t token, std::int64_t row) {
  if (to.src_idx != nullptr && threadIdx.x % kWarpThreads == 0) to.src_idx[row] = static_cast<std::int32_t>(token);
  if (args.id_bytes == 8) {
    warp_send_topk<long long>(args, to, token, row);
  } else {
    warp_send_topk<int>(args, to, token, row);
  }
  switch (args.scale_bytes) {
    case 8: warp_send_scales<unsigned long long>(args, to, token, row); return;
    case 4: warp_send_scales<unsigned int>(args, to, token, row); return;
    case 2: warp_send_scales<unsigned short>(args, to, token, row); return;
    default: warp_send_scales<unsigned char>(args, to, token, row); return;
  }
}

__device__ void warp_send_all_extras(const SendArgs& args, const Destination* destinations, std::int64_t token) {
  for (int first_rank = 0; first_rank < args.num_ranks; first_rank += kWarpThreads) {
    const LaneDestination to = warp_find_destinations(args, token, first_rank);
    for (unsigned left = to.mask; left != 0; left &= left - 1) {
      const int source = __ffs(static_cast<int>(left)) - 1;
      const std::int64_t row = __shfl_sync(kAllLanes, to.row, source);
      warp_send_extras(args, destinations[first_rank + source], token, row);
    }
  }
}

/// A warp's piece of work is a piece of a row. The last piece of each token is what travels with the row.
template <typename T>
__global__ void __launch_bounds__(kThreads, 1) send_kernel(const __grid_constant__ SendArgs args) {
  __shared__ Destination destinations[kMaxRanks];
  for (int rank = static_cast<int>(threadIdx.x); rank < args.num_ranks; rank += kThreads) {
    destinations[rank] = args.destinations[rank];
  }
  __syncthreads();
  const std::int64_t piece_bytes = kLoads * kWarpThreads * static_cast<std::int64_t>(sizeof(T));
  const std::int64_t pieces = (args.row_bytes + piece_bytes - 1) / piece_bytes;
  const std::int64_t items = args.num_tokens * (pieces + 1);
  const std::int64_t num_warps = static_cast<std::int64_t>(gridDim.x) * (kThreads / kWarpThreads);
  const std::int64_t warp =
      static_cast<std::int64_t>(blockIdx.x) * (kThreads / kWarpThreads) + threadIdx.x / kWarpThreads;
  for (std::int64_t item = warp; item < items; item += num_warps) {
    const std::int64_t token = item / (pieces + 1);
    const std::int64_t piece = item % (pieces + 1);
    if (piece < pieces) {
      warp_send_piece<T>(args, destinations, token, piece);
    } else {
      warp_send_all_extras(args, destinations, token);
    }
  }
  if (block_is_last(args.completion.blocks_ended)) thread_complete(args.completion);
}

}  // namespace

cudaError_t launch_send(const SendArgs& args, int num_sms, cudaStream_t stream) {
  const int bytes = access_bytes({reinterpret_cast<std::uint64_t>(args.x), static_cast<std::uint64_t>(args.x_stride),
                                  static_cast<std::uint64_t>(args.row_bytes)});
  with_access(bytes, [&](auto access) {
    send_kernel<decltype(access)><<<static_cast<unsigned>(num_sms), kThreads, 0, stream>>>(args);
  });
  return cudaGetLastError();
}

}  // namespace crossdock::cuda::device
