// The second half of a low-latency dispatch: rows are fetched from where their ranks staged them.
#pragma once

#include "backend/cuda/device/expert_counts.cuh"
#include "backend/cuda/device/items.cuh"
#include "backend/cuda/device/party.cuh"
#include "backend/cuda/device/row_access.cuh"
#include "plan/experts.hpp"

namespace crossdock::cuda::device {

inline constexpr int kFetchLoads = 4;  ///< accesses of a lane in a piece of a row

/// What a block knows of the ranks' rows. Lies in shared memory.
struct Sources {
  const std::byte* rows[kMaxRanks];
  const std::byte* scales[kMaxRanks];
  const RouteEntry* routes[kMaxRanks];
  int num_tokens[kMaxRanks];  ///< 0 if the rank takes no part
  int most_tokens;
};

/// All threads, with sources.most_tokens 0. `begins` is [L, R]: the first row of each source among an expert's. The
/// last block fills in the results that say so.
__device__ inline void block_plan_fetch(const LowLatencyDispatchArgs& args, const BlockState& block,
                                        const plan::ExpertMap& experts, const Record* records, Sources& sources,
                                        int* begins) {
  const Party& party = args.party;
  const int num_ranks = party.num_ranks;
  if (const int rank = static_cast<int>(threadIdx.x); rank < num_ranks) {
    const bool takes_part = !thread_is_masked(block, rank);
    const std::int64_t num_tokens = takes_part ? records[rank].num_tokens : 0;
    const std::byte* const base = party.windows[rank] + (takes_part ? records[rank].offset : 0);
    const ParcelLayout parcel(num_tokens, args.hidden, args.cast, args.num_topk);
    sources.rows[rank] = base + parcel.row(0);
    sources.scales[rank] = base + parcel.scales(0);
    sources.routes[rank] = reinterpret_cast<const RouteEntry*>(base + parcel.routes(0));
    sources.num_tokens[rank] = static_cast<int>(num_tokens);
    atomicMax(&sources.most_tokens, static_cast<int>(num_tokens));
  }
  const bool is_last = blockIdx.x + 1 == gridDim.x;
  // By the last threads: the first ones are at work.
  for (int local = block_threads() - 1 - static_cast<int>(threadIdx.x); local < experts.count(party.rank);
       local += block_threads()) {
    int begin = 0;
    thread_for_each_count(party, block, experts.begin(party.rank) + local, [&](int rank, int count) {
      begins[local * num_ranks + rank] = begin;
      if (is_last) args.layout_range[local * num_ranks + rank] = static_cast<std::int64_t>(begin) << 32U | count;
      begin += count;
    });
    if (!is_last) continue;
    args.count[local] = begin;
    if (args.statistics != nullptr) atomicAdd(&args.statistics[local], begin);
  }
  __syncthreads();
}

/// One block finds out where this rank's own rows lie, for the combine. `table` has room for 2 E ints.
__device__ inline void block_place(const LowLatencyDispatchArgs& args, const BlockState& block,
                                   const plan::ExpertMap& experts, int* table) {
  const Party& party = args.party;
  int* const before = table;                     // of this rank's rows, for each expert
  int* const packed = table + args.num_experts;  // all rows, then where they begin among those of their owner
  __syncthreads();
  for (int expert = static_cast<int>(threadIdx.x); expert < args.num_experts; expert += block_threads()) {
    int sum = 0;
    thread_for_each_count(party, block, expert, [&](int rank, int count) {
      if (rank == party.rank) before[expert] = sum;
      sum += count;
    });
    packed[expert] = sum;
  }
  __syncthreads();
  if (const int owner = static_cast<int>(threadIdx.x); owner < party.num_ranks) {
    int sum = 0;
    for (int expert = experts.begin(owner); expert < experts.begin(owner) + experts.count(owner); ++expert) {
      const int count = packed[expert];
      packed[expert] = sum;
      sum += count;
    }
  }
  __syncthreads();
  const ParcelLayout parcel(args.num_tokens, args.hidden, args.cast, args.num_topk);
  const auto* routes = reinterpret_cast<const RouteEntry*>(args.parcel + parcel.routes(0));
  for (std::int64_t i = threadIdx.x; i < args.num_tokens * args.num_topk; i += block_threads()) {
    const RouteEntry route = routes[i];
    Place place{-1, route.expert, 0};
    const int owner = route.expert < 0 ? -1 : experts.owner(route.expert);
    if (owner >= 0 && !thread_is_masked(block, owner)) {
      const int row = before[route.expert] + route.ordinal;
      place = {owner, packed[route.expert] + row,
               (route.expert - experts.begin(owner)) * party.num_ranks * args.max_tokens + row};
    }
    args.places[i] = place;
  }
}

/// Where the rows of one token go on this rank: one selection to a lane.
struct LaneDestination {
  int expert;     ///< of this rank
  int row;        ///< among the expert's
  unsigned mask;  ///< lanes that have one; the same in all lanes
};

__device__ inline LaneDestination warp_find_destinations(const LowLatencyDispatchArgs& args,
                                                         const plan::ExpertMap& experts, const RouteEntry& route,
                                                         int source, const int* begins) {
  const int expert = route.expert - experts.begin(args.party.rank);
  const bool is_mine = route.expert >= 0 && expert >= 0 && expert < experts.count(args.party.rank);
  const int row = is_mine ? begins[expert * args.party.num_ranks + source] + route.ordinal : 0;
  return {expert, row, __ballot_sync(0xFFFFFFFFU, is_mine)};
}

/// Calls body(expert, row) for each.
template <typename Body>
__device__ void warp_for_each(const LaneDestination& to, const Body& body) {
  for (unsigned left = to.mask; left != 0; left &= left - 1) {
    const int lane = __ffs(static_cast<int>(left)) - 1;
    body(__shfl_sync(0xFFFFFFFFU, to.expert, lane), __shfl_sync(0xFFFFFFFFU, to.row, lane));
  }
}

/// One piece of a row that goes to `to`: kFetchLoads accesses of each lane.
template <typename T>
__device__ void warp_fetch_piece(const LowLatencyDispatchArgs& args, const std::byte* row, std::int64_t row_bytes,
                                 const LaneDestination& to, int piece) {
  const int count = static_cast<int>(row_bytes / static_cast<std::int64_t>(sizeof(T)));
  const int begin = piece * (kFetchLoads * kWarpThreads) + static_cast<int>(threadIdx.x % kWarpThreads);
  T values[kFetchLoads];
#pragma unroll
  for (int i = 0; i < kFetchLoads; ++i) {
    if (begin + i * kWarpThreads < count) values[i] = reinterpret_cast<const T*>(row)[begin + i * kWarpThreads];
  }
  const std::int64_t places = args.party.num_ranks * args.max_tokens;
  warp_for_each(to, [&](int expert, int index) {
    auto* out = reinterpret_cast<T*>(args.recv_x + (expert * places + index) * row_bytes);
#pragma unroll
    for (int i = 0; i < kFetchLoads; ++i) {
      if (begin + i * kWarpThreads < count) thread_store(out + begin + i * kWarpThreads, values[i]);
    }
  });
}

__device__ inline void warp_fetch_extras(const LowLatencyDispatchArgs& args, const std::byte* scales, int num_words,
                                         const LaneDestination& to, std::int64_t token) {
  const int lane = static_cast<int>(threadIdx.x % kWarpThreads);
  const std::int64_t places = args.party.num_ranks * args.max_tokens;
  if ((to.mask >> lane & 1U) != 0) args.src_info[to.expert * places + to.row] = static_cast<std::int32_t>(token);
  constexpr int kLoads = 2;
  for (int first = 0; first < num_words; first += kLoads * kWarpThreads) {
    std::uint32_t words[kLoads];
#pragma unroll
    for (int i = 0; i < kLoads; ++i) {
      const int word = first + i * kWarpThreads + lane;
      if (word < num_words) words[i] = reinterpret_cast<const std::uint32_t*>(scales)[word];
    }
    warp_for_each(to, [&](int expert, int index) {
#pragma unroll
      for (int i = 0; i < kLoads; ++i) {
        const int word = first + i * kWarpThreads + lane;
        if (word < num_words)
          args.scales[(static_cast<std::int64_t>(expert) * num_words + word) * places + index] = words[i];
      }
    });
  }
}

/// One piece of work of a warp.
struct FetchItem {
  int source;
  int token;         ///< -1: none
  RouteEntry route;  ///< of this lane's column
};

/// Looks up the piece of work that `item` stands for.
__device__ inline FetchItem thread_find_item(const LowLatencyDispatchArgs& args, const Sources& sources,
                                             const WarpItem& item) {
  FetchItem found{0, -1, {-1, 0}};
  if (!item.is_valid()) return found;
  const auto which = static_cast<unsigned>(item.token());
  const auto num_ranks = static_cast<unsigned>(args.party.num_ranks);
  found.source = static_cast<int>(which % num_ranks);
  const auto token = static_cast<int>(which / num_ranks);
  if (token >= sources.num_tokens[found.source]) return found;
  found.token = token;
  const int lane = static_cast<int>(threadIdx.x % kWarpThreads);
  if (lane >= args.num_topk) return found;
  found.route = sources.routes[found.source][static_cast<std::int64_t>(token) * args.num_topk + lane];
  return found;
}

/// A warp's piece of work is a piece of a token's row; the last piece of each token is what belongs to the row. The
/// part of one of `num_blocks` blocks.
template <typename T>
__device__ void grid_fetch(const LowLatencyDispatchArgs& args, const plan::ExpertMap& experts, const Sources& sources,
                           const int* begins, int block, int num_blocks) {
  const ParcelLayout model(0, args.hidden, args.cast, args.num_topk);
  const std::int64_t piece_bytes = kFetchLoads * kWarpThreads * static_cast<std::int64_t>(sizeof(T));
  const int pieces = static_cast<int>((model.row_bytes() + piece_bytes - 1) / piece_bytes);
  const std::int64_t row_pitch = model.row(1) - model.row(0);
  const auto num_words = static_cast<int>(model.scale_words());
  const int lane = static_cast<int>(threadIdx.x % kWarpThreads);
  const std::int64_t tokens = static_cast<std::int64_t>(sources.most_tokens) * args.party.num_ranks;
  WarpItem item(tokens, pieces + 1, block, num_blocks);
  FetchItem next = thread_find_item(args, sources, item);
  for (; item.is_valid(); item.step()) {
    const FetchItem now = next;
    next = thread_find_item(args, sources, item.next());
    if (now.token < 0) continue;
    RouteEntry route = now.route;
    for (int first = 0;;) {
      const LaneDestination to = warp_find_destinations(args, experts, route, now.source, begins);
      if (to.mask != 0 && item.piece() < pieces) {
        warp_fetch_piece<T>(args, sources.rows[now.source] + now.token * row_pitch, model.row_bytes(), to,
                            item.piece());
      } else if (to.mask != 0) {
        warp_fetch_extras(args, sources.scales[now.source] + std::int64_t{4} * now.token * num_words, num_words, to,
                          now.token);
      }
      first += kWarpThreads;
      if (first >= args.num_topk) break;
      const RouteEntry* const routes =
          sources.routes[now.source] + static_cast<std::int64_t>(now.token) * args.num_topk;
      route = first + lane < args.num_topk ? routes[first + lane] : RouteEntry{-1, 0};
    }
  }
}

}  // namespace crossdock::cuda::device
