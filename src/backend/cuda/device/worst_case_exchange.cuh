// What the ranks of throughput mode say to each other without the host before rows move.
#pragma once

#include "backend/cuda/device/items.cuh"
#include "backend/cuda/device/party.cuh"
#include "backend/cuda/device/worst_case.hpp"
#include "backend/cuda/device/worst_case_groups.cuh"
#include "plan/experts.hpp"

namespace crossdock::cuda::device {

/// [R, R] rows from each rank to each rank.
struct CountTable {
  const std::int32_t* counts;
  int num_ranks;

  [[nodiscard]] __device__ std::int64_t at(int from, int to) const { return counts[from * num_ranks + to]; }
  /// Where the block of `from` begins at `to`.
  [[nodiscard]] __device__ std::int64_t row_begin(int from, int to) const {
    std::int64_t sum = 0;
    for (int rank = 0; rank < from; ++rank) sum += at(rank, to);
    return sum;
  }
};

__device__ inline std::int32_t* thread_counts_of(HandleCounts* handle, int num_ranks) {
  return reinterpret_cast<std::int32_t*>(reinterpret_cast<std::byte*>(handle) + HandleCounts::counts(num_ranks));
}

__device__ inline CountTable thread_table_of(HandleCounts* handle, const Party& party) {
  return {thread_counts_of(handle, party.num_ranks), party.num_ranks};
}

/// All threads. What the others must know besides the record.
__device__ inline void block_write_counts(const WorstCaseArgs& args, const BlockState& block) {
  const Party& party = args.party;
  const Slot slot(party, block.epoch);
  for (int rank = static_cast<int>(threadIdx.x); rank < party.num_ranks; rank += block_threads()) {
    slot.placement(party.rank, rank) = args.placement;
  }
  if (args.kind == OperationKind::kWorstCaseDispatch) {
    for (int i = static_cast<int>(threadIdx.x); i < party.num_ranks * party.num_ranks; i += block_threads()) {
      const int to = i % party.num_ranks;
      slot.rank_counts(party.rank, i / party.num_ranks)[to] = args.found.per_rank[to];
    }
    const plan::ExpertMap experts(args.num_experts, party.num_ranks);
    for (int expert = static_cast<int>(threadIdx.x); expert < args.num_experts; expert += block_threads()) {
      const std::int32_t count = args.found.per_expert[expert];
      if (args.groups.alignment == 0) {
        slot.counts(party.rank, experts.owner(expert))[expert] = count;
      } else {
        for (int to = 0; to < party.num_ranks; ++to) slot.counts(party.rank, to)[expert] = count;
      }
    }
  }
  __threadfence_system();
  __syncthreads();
}

/// What is wrong with the caller's arguments that only the device could see.
__device__ inline void thread_find_obstacle(const WorstCaseArgs& args, Record& record) {
  if (*args.found.bad_id != 0) {
    const auto place = static_cast<std::int64_t>(~*args.found.bad_id);
    record.obstacle = Obstacle::kBadId;
    record.detail[0] = place;
    record.detail[1] = args.id_bytes == 8 ? reinterpret_cast<const long long*>(args.topk_idx)[place]
                                          : reinterpret_cast<const int*>(args.topk_idx)[place];
    return;
  }
  const auto compare = [&](const std::int32_t* given, const std::int32_t* counted, int count, Obstacle obstacle) {
    for (int i = 0; given != nullptr && i < count; ++i) {
      if (given[i] == counted[i]) continue;
      record.obstacle = obstacle;
      record.detail[0] = i;
      record.detail[1] = static_cast<std::int64_t>(given[i]) << 32 | static_cast<std::uint32_t>(counted[i]);
      return;
    }
  };
  compare(args.given_per_rank, args.found.per_rank, args.party.num_ranks, Obstacle::kBadLayout);
  compare(args.groups.given_per_expert, args.found.per_expert, args.num_experts, Obstacle::kBadGroups);
}

/// All threads.
__device__ inline void block_announce_exchange(const WorstCaseArgs& args, BlockState& block) {
  Record record{};
  record.offset = args.placement.x;
  record.num_tokens = args.num_tokens;
  record.hidden = args.hidden;
  if (args.kind != OperationKind::kWorstCaseDispatch) record.handle_epoch = args.handle->epoch;
  record.kind = args.kind;
  record.num_topk = args.num_topk;
  record.num_experts = args.num_experts;
  record.id_bytes = static_cast<std::uint32_t>(args.id_bytes);
  record.num_scales = args.num_scales;
  record.dtypes = args.dtypes;
  record.alignment = args.groups.alignment;
  record.extent = args.extent;
  if (args.kind == OperationKind::kWorstCaseDispatch) thread_find_obstacle(args, record);
  block_announce(args.party, block, record);
}

/// All threads. What follows on the stream may use the handle, whatever became of the dispatch.
__device__ inline void block_clear_handle(const WorstCaseArgs& args) {
  const int num_ranks = args.party.num_ranks;
  std::int32_t* const counts = thread_counts_of(args.handle, num_ranks);
  for (int i = static_cast<int>(threadIdx.x); i < num_ranks * num_ranks; i += block_threads()) counts[i] = 0;
  if (threadIdx.x == 0) *args.handle = HandleCounts{};
  if (args.groups.alignment > 0) block_clear_groups(args);
  __syncthreads();
}

/// All threads. Fills in the handle; false if a rank would receive more rows than it takes.
__device__ inline bool block_take_counts(const WorstCaseArgs& args, BlockState& block, const Record* records) {
  const Party& party = args.party;
  const Slot slot(party, block.epoch);
  std::int32_t* const counts = thread_counts_of(args.handle, party.num_ranks);
  for (int i = static_cast<int>(threadIdx.x); i < party.num_ranks * party.num_ranks; i += block_threads()) {
    const int from = i / party.num_ranks;
    const int to = i % party.num_ranks;
    const bool takes_part = !thread_is_masked(block, from) && !thread_is_masked(block, to);
    counts[i] = takes_part ? slot.rank_counts(from, party.rank)[to] : 0;
  }
  const bool is_expanded = args.groups.alignment > 0;
  __syncthreads();
  if (is_expanded) block_sum_selections(args, block, counts);
  const std::int64_t group_rows = is_expanded ? block_take_groups(args, block) : 0;
  const int rank = static_cast<int>(threadIdx.x);
  const CountTable table = thread_table_of(args.handle, party);
  std::int64_t received = 0;
  if (rank < party.num_ranks && !thread_is_masked(block, rank)) {
    received = is_expanded ? group_rows : table.row_begin(party.num_ranks, rank);
    if (received > records[rank].extent) thread_note(block, FailureKind::kOverflow, rank);
  }
  __syncthreads();
  if (block.failure != BlockState::kNoFailure && rank == static_cast<int>(block.failure >> 8U)) block.detail = received;
  if (block_fails(party, block)) {
    block_clear_handle(args);
    return false;
  }
  if (rank < party.num_ranks) {
    auto* const num_tokens_of =
        reinterpret_cast<std::int64_t*>(reinterpret_cast<std::byte*>(args.handle) + HandleCounts::num_tokens_of());
    num_tokens_of[rank] = thread_is_masked(block, rank) ? 0 : records[rank].num_tokens;
  }
  if (rank == party.rank) {
    args.handle->epoch = block.epoch;
    args.handle->received = {received, table.row_begin(rank, rank), table.at(rank, rank)};
    if (is_expanded) args.handle->received = {received, 0, 0};
  }
  return true;
}

/// All threads.
__device__ inline void block_write_send_table(const WorstCaseArgs& args, const BlockState& block) {
  const Party& party = args.party;
  const int rank = static_cast<int>(threadIdx.x);
  const CountTable table = thread_table_of(args.handle, party);
  if (rank == 0) args.send->num_recv = args.handle->received.num_rows;
  if (rank >= party.num_ranks || thread_is_masked(block, rank) || table.at(party.rank, rank) == 0) return;
  const Placement& placement = Slot(party, block.epoch).placement(rank, party.rank);
  const bool is_expanded = args.groups.alignment > 0;
  const std::int64_t row = is_expanded ? 0 : table.row_begin(party.rank, rank);
  std::byte* const window = party.windows[rank];
  const plan::ExpertMap experts(args.num_experts > 0 ? args.num_experts : 1, party.num_ranks);
  Destination to;
  to.x = window + placement.x + row * args.row_bytes;
  to.scales = window + placement.scales + row * args.scale_row_bytes;
  if (args.kind == OperationKind::kWorstCaseDispatch) {
    if (!is_expanded) to.topk_idx = window + placement.topk_idx + row * args.num_topk * args.id_bytes;
    to.topk_weights = reinterpret_cast<float*>(window + placement.topk_weights) + row * args.num_topk;
    to.src_idx = reinterpret_cast<std::int32_t*>(window + placement.src_idx) + row;
  }
  to.expert_begin = experts.begin(rank);
  to.expert_count = experts.count(rank);
  args.send->destinations[rank] = to;
  atomicOr(reinterpret_cast<unsigned long long*>(&args.send->ranks), 1ULL << static_cast<unsigned>(rank));
}

/// All threads.
__device__ inline void block_write_reduce_table(const WorstCaseArgs& args, const BlockState& block,
                                                const Record* records) {
  const Party& party = args.party;
  const int rank = static_cast<int>(threadIdx.x);
  const CountTable table = thread_table_of(args.handle, party);
  if (rank == 0) args.reduce->is_failed = 0;
  if (rank >= party.num_ranks || thread_is_masked(block, rank) || table.at(party.rank, rank) == 0) return;
  const std::int64_t row = args.groups.alignment > 0 ? 0 : table.row_begin(party.rank, rank);
  Contributor from;
  if (rank == party.rank) {
    from = {args.own_x + row * args.own_stride, args.own_stride, args.own_weights + row * args.num_topk};
  } else {
    const Placement& placement = Slot(party, block.epoch).placement(rank, party.rank);
    const std::byte* const window = party.windows[rank];
    from.x = window + placement.x + row * records[rank].extent;
    from.stride = records[rank].extent;
    from.weights = reinterpret_cast<const float*>(window + placement.topk_weights) + row * args.num_topk;
  }
  args.reduce->contributors[rank] = from;
  atomicOr(reinterpret_cast<unsigned long long*>(&args.reduce->ranks), 1ULL << static_cast<unsigned>(rank));
}

/// By one thread: rows are neither sent nor summed.
__device__ inline void thread_clear_table(const WorstCaseArgs& args) {
  if (args.send != nullptr) {
    args.send->ranks = 0;
    args.send->num_recv = -1;
  } else {
    args.reduce->ranks = 0;
    args.reduce->is_failed = 1;
  }
}

/// All threads. The rows of ranks that take no part are zeros in the result of a cached expanded dispatch: they were
/// cleared by those who knew of it before they announced. False if not all did.
__device__ inline bool block_knew_of_losses(const Party& party, BlockState& block, const Record* records) {
  const int rank = static_cast<int>(threadIdx.x);
  if (rank < party.num_ranks && !thread_is_masked(block, rank) && records[rank].masked != block.masked) {
    const auto unknown = static_cast<long long>(block.masked & ~records[rank].masked);
    thread_note(block, FailureKind::kLost, __ffsll(unknown) - 1);
  }
  return !block_fails(party, block);
}

/// All threads of one block. Announces, waits for all ranks, compares, and writes the table by which rows are sent or
/// summed; one that says that the operation failed if it did.
__device__ inline void block_exchange(const WorstCaseArgs& args, BlockState& block) {
  __shared__ Record records[kMaxRanks];
  if (threadIdx.x == 0) thread_clear_table(args);
  __syncthreads();
  if (args.kind == OperationKind::kWorstCaseDispatch) block_clear_handle(args);
  if (block.is_broken) {
    if (threadIdx.x == 0) thread_report(args.party, block, FailureKind::kBroken, args.party.rank);
    return;
  }
  block_await_slot(args.party, block, 0);
  if (block_fails(args.party, block)) return;
  block_write_counts(args, block);
  const bool is_cached_expanded = args.kind == OperationKind::kCachedDispatch && args.groups.alignment > 0;
  if (is_cached_expanded && block.masked != 0) block_clear_result(args);
  block_announce_exchange(args, block);
  if (!block_await_records(args.party, block, records)) return;
  if (is_cached_expanded && args.party.masks_lost && !block_knew_of_losses(args.party, block, records)) return;
  if (args.kind == OperationKind::kWorstCaseDispatch && !block_take_counts(args, block, records)) return;
  __syncthreads();
  if (args.send != nullptr) {
    block_write_send_table(args, block);
  } else {
    block_write_reduce_table(args, block, records);
  }
  if (!args.party.masks_lost) return;
  __threadfence_system();  // while the others count on this rank, what was read of them stands
  if (block_has_standing(args.party, block)) return;
  if (threadIdx.x == 0) thread_clear_table(args);
  if (args.kind == OperationKind::kWorstCaseDispatch) block_clear_handle(args);
}

/// All threads of all blocks: one block does the exchange, the others wait for it.
__device__ inline void grid_exchange(const WorstCaseArgs& args, BlockState& block) {
  OwnState& own = thread_own(args.party);
  if (blockIdx.x == 0) {
    block_exchange(args, block);
    __syncthreads();
    if (threadIdx.x == 0) {
      if (args.party.masks_lost) {
        own.exchange_masked = block.masked;
        own.exchange_lost = block.lost;
      }
      thread_release_here(&own.is_exchanged, 1);
    }
  } else if (threadIdx.x == 0) {
    while (thread_acquire_here(&own.is_exchanged) == 0) {
    }
    if (args.party.masks_lost) {
      block.masked = own.exchange_masked;
      block.lost = own.exchange_lost;
    }
  }
  __syncthreads();
}

}  // namespace crossdock::cuda::device
