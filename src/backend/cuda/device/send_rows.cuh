// How the rows of a dispatch are sent: each is read once and stored to all its destinations.
#pragma once

#include "backend/cuda/device/items.cuh"
#include "backend/cuda/device/ranks.cuh"
#include "backend/cuda/device/row_access.cuh"
#include "backend/cuda/device/row_access.hpp"
#include "backend/cuda/device/send.hpp"

namespace crossdock::cuda::device {

inline constexpr int kSendThreads = 1024;
inline constexpr int kSendLoads = 4;  ///< of a thread that are in flight at once

/// The destinations of one token among 32 ranks, or 32 of its selections in an expanded dispatch, one to a lane.
struct LaneTargets {
  int row;  ///< of this lane's rank, -1: the token does not go there
  int rank;
  unsigned mask;  ///< lanes whose rank gets the token; the same in all lanes
};

/// As in SendTable, destinations [R] in shared memory.
struct Targets {
  std::uint64_t ranks;
  const Destination* destinations;
};

/// A token has a row for each rank that it goes to.
struct SentToRanks {
  static constexpr bool kExpanded = false;
  static __device__ int count(const SendArgs& args) { return args.num_ranks; }
  static __device__ LaneTargets warp_find(const SendArgs& args, const Targets& targets, std::int64_t token, int first) {
    const int rank = first + static_cast<int>(threadIdx.x % kWarpThreads);
    const int row = thread_takes_part(targets.ranks, rank) ? args.rows[token * args.num_ranks + rank] : -1;
    return {row, rank, __ballot_sync(0xFFFFFFFFU, row >= 0)};
  }
};

/// A token has a row for each of its selections.
struct SentToSelections {
  static constexpr bool kExpanded = true;
  static __device__ int count(const SendArgs& args) { return args.selections.num_topk; }
  static __device__ LaneTargets warp_find(const SendArgs& args, const Targets& targets, std::int64_t token, int first) {
    const int entry = first + static_cast<int>(threadIdx.x % kWarpThreads);
    SelectionRow to{-1, -1};
    if (entry < count(args)) to = args.selections.rows[token * count(args) + entry];
    const int row = to.rank >= 0 && thread_takes_part(targets.ranks, to.rank) ? to.row : -1;
    return {row, to.rank, __ballot_sync(0xFFFFFFFFU, row >= 0)};
  }
};

/// Calls body(destination, row there) for each destination of the token. `destinations` are those of the 32 ranks, or
/// of all ranks if selections are sent.
template <typename Rows, typename Body>
__device__ void warp_for_each_target(const LaneTargets& to, const Destination* destinations, const Body& body) {
  for (unsigned left = to.mask; left != 0; left &= left - 1) {
    const int source = __ffs(static_cast<int>(left)) - 1;
    const int index = Rows::kExpanded ? __shfl_sync(0xFFFFFFFFU, to.rank, source) : source;
    body(destinations[index], static_cast<std::int64_t>(__shfl_sync(0xFFFFFFFFU, to.row, source)));
  }
}

/// One piece of a row: kSendLoads accesses of each lane.
template <typename Rows, typename T>
__device__ void warp_send_piece(const SendArgs& args, const Targets& targets, std::int64_t token, int piece) {
  const LanePiece<kSendLoads> mine(piece, args.row_bytes / static_cast<std::int64_t>(sizeof(T)));
  const auto* from = reinterpret_cast<const T*>(args.x + token * args.x_stride);
  T values[kSendLoads];
  mine.for_each([&](int i, std::int64_t at) { values[i] = thread_load(from + at); });
  for (int first = 0; first < Rows::count(args); first += kWarpThreads) {
    const LaneTargets to = Rows::warp_find(args, targets, token, first);
    const Destination* const some = targets.destinations + (Rows::kExpanded ? 0 : first);
    warp_for_each_target<Rows>(to, some, [&](const Destination& destination, std::int64_t row) {
      auto* out = reinterpret_cast<T*>(destination.x + row * args.row_bytes);
      mine.for_each([&](int i, std::int64_t at) { thread_store(out + at, values[i]); });
    });
  }
}

/// Ids and weights of a token are read once, 32 columns at a time.
template <typename Id>
__device__ void warp_send_topk(const SendArgs& args, const LaneTargets& to, const Destination* destinations,
                               std::int64_t token) {
  const auto* ids = reinterpret_cast<const Id*>(args.topk_idx) + token * args.num_topk;
  const float* weights = args.topk_weights + token * args.num_topk;
  for (int first = 0; first < args.num_topk; first += kWarpThreads) {
    const int k = first + static_cast<int>(threadIdx.x % kWarpThreads);
    const bool is_column = k < args.num_topk;
    const Id id = is_column ? ids[k] : Id{-1};
    const float weight = is_column ? weights[k] : 0.0F;
    warp_for_each_target<SentToRanks>(to, destinations, [&](const Destination& destination, std::int64_t row) {
      const Id local = id - destination.expert_begin;
      const bool is_local = local >= 0 && local < destination.expert_count;
      if (!is_column) return;
      reinterpret_cast<Id*>(destination.topk_idx)[row * args.num_topk + k] = is_local ? local : Id{-1};
      destination.topk_weights[row * args.num_topk + k] = is_local ? weight : 0.0F;
    });
  }
}

/// Scales of a token are read once, kScales for each lane at a time.
template <typename Rows, typename T>
__device__ void warp_send_scales(const SendArgs& args, const LaneTargets& to, const Destination* destinations,
                                 std::int64_t token) {
  constexpr int kScales = 2;
  const std::byte* from = args.scales + token * args.scale_row_stride;
  for (int first = 0; first < args.num_scales; first += kScales * kWarpThreads) {
    const int column = first + static_cast<int>(threadIdx.x % kWarpThreads);
    T values[kScales];
#pragma unroll
    for (int i = 0; i < kScales; ++i) {
      const int s = column + i * kWarpThreads;
      if (s < args.num_scales) values[i] = *reinterpret_cast<const T*>(from + s * args.scale_column_stride);
    }
    warp_for_each_target<Rows>(to, destinations, [&](const Destination& destination, std::int64_t row) {
      auto* out = reinterpret_cast<T*>(destination.scales) + row * args.num_scales;
#pragma unroll
      for (int i = 0; i < kScales; ++i) {
        if (column + i * kWarpThreads < args.num_scales) out[column + i * kWarpThreads] = values[i];
      }
    });
  }
}

/// The weight of this lane's selection, which is entry `first` + lane of its token.
__device__ inline void thread_send_weight(const SendArgs& args, const LaneTargets& to, const Destination& destination,
                                          std::int64_t token, int first) {
  if (destination.topk_weights == nullptr) return;
  const std::int64_t begin = token * args.selections.num_topk;
  const std::int32_t column = args.selections.columns[begin + first + static_cast<int>(threadIdx.x % kWarpThreads)];
  destination.topk_weights[to.row] = args.topk_weights[begin + column];
}

/// What travels with a token's rows.
template <typename Rows>
__device__ void warp_send_extras(const SendArgs& args, const Targets& targets, std::int64_t token) {
  for (int first = 0; first < Rows::count(args); first += kWarpThreads) {
    const LaneTargets to = Rows::warp_find(args, targets, token, first);
    const Destination* const some = targets.destinations + (Rows::kExpanded ? 0 : first);
    if (to.row >= 0) {
      const Destination& mine = targets.destinations[to.rank];
      if (mine.src_idx != nullptr) mine.src_idx[to.row] = static_cast<std::int32_t>(token);
      if constexpr (Rows::kExpanded) thread_send_weight(args, to, mine, token, first);
    }
    if constexpr (!Rows::kExpanded) {
      if (args.id_bytes == 8) {
        warp_send_topk<long long>(args, to, some, token);
      } else {
        warp_send_topk<int>(args, to, some, token);
      }
    }
    switch (args.scale_bytes) {
      case 8: warp_send_scales<Rows, unsigned long long>(args, to, some, token); break;
      case 4: warp_send_scales<Rows, unsigned int>(args, to, some, token); break;
      case 2: warp_send_scales<Rows, unsigned short>(args, to, some, token); break;
      default: warp_send_scales<Rows, unsigned char>(args, to, some, token); break;
    }
  }
}

/// The part of one of `num_blocks` blocks.
template <typename Id>
__device__ void block_fill_unused_rows(const SendArgs& args, std::int64_t num_used, unsigned block,
                                       unsigned num_blocks) {
  const std::int64_t end = args.unused.num_rows * args.num_topk;
  for (std::int64_t i = num_used * args.num_topk + block * kSendThreads + threadIdx.x; i < end;
       i += num_blocks * kSendThreads) {
    reinterpret_cast<Id*>(args.unused.topk_idx)[i] = Id{-1};
    args.unused.topk_weights[i] = 0.0F;
  }
}

/// The same of an expanded dispatch.
__device__ inline void block_fill_unused_selections(const UnusedRows& unused, std::int64_t num_used, unsigned block,
                                                    unsigned num_blocks) {
  for (std::int64_t i = num_used + block * kSendThreads + threadIdx.x; i < unused.num_rows;
       i += num_blocks * kSendThreads) {
    unused.topk_weights[i] = 0.0F;
    unused.src_idx[i] = -1;
  }
}

template <typename Rows>
__device__ void block_fill_unused(const SendArgs& args, std::int64_t num_used, unsigned block, unsigned num_blocks) {
  if (args.unused.num_rows == 0) return;
  if constexpr (Rows::kExpanded) {
    block_fill_unused_selections(args.unused, num_used, block, num_blocks);
  } else if (args.id_bytes == 8) {
    block_fill_unused_rows<long long>(args, num_used, block, num_blocks);
  } else {
    block_fill_unused_rows<int>(args, num_used, block, num_blocks);
  }
}

/// A warp's piece of work is a piece of a row. The last piece of each token is what travels with the row.
template <typename Rows, typename T>
__device__ void grid_send(const SendArgs& args, const SendTable& table) {
  __shared__ Destination destinations[kMaxRanks];
  for (int rank = static_cast<int>(threadIdx.x); rank < args.num_ranks; rank += kSendThreads) {
    destinations[rank] = table.destinations[rank];
  }
  __syncthreads();
  const Targets targets{table.ranks, destinations};
  const std::int64_t piece_bytes = kSendLoads * kWarpThreads * static_cast<std::int64_t>(sizeof(T));
  const int pieces = static_cast<int>((args.row_bytes + piece_bytes - 1) / piece_bytes);
  for (WarpItem item(args.num_tokens, pieces + 1); item.is_valid(); item.step()) {
    if (item.piece() < pieces) {
      warp_send_piece<Rows, T>(args, targets, item.token(), item.piece());
    } else {
      warp_send_extras<Rows>(args, targets, item.token());
    }
  }
  // All rows if the operation failed.
  block_fill_unused<Rows>(args, max(table.num_recv, std::int64_t{0}), blockIdx.x, gridDim.x);
}

/// Bytes of the widest access that suits what a thread moves.
[[nodiscard]] inline int access_bytes_of(const SendArgs& args) {
  return access_bytes({reinterpret_cast<std::uint64_t>(args.x), static_cast<std::uint64_t>(args.x_stride),
                       static_cast<std::uint64_t>(args.row_bytes)});
}

}  // namespace crossdock::cuda::device
