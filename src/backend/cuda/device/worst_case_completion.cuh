// What the ranks of throughput mode say to each other without the host when rows have moved.
#pragma once

#include "backend/cuda/device/expert_counts.cuh"
#include "backend/cuda/device/worst_case_exchange.cuh"

namespace crossdock::cuda::device {

/// All threads: until wait(rank) has returned for each rank that takes part. False if it found a failure.
template <typename Wait>
__device__ inline bool block_await_all(const WorstCaseArgs& args, BlockState& block, const Wait& wait) {
  const Party& party = args.party;
  const int rank = static_cast<int>(threadIdx.x);
  if (rank < party.num_ranks && !thread_is_masked(block, rank)) {
    thread_note(block, wait(rank), rank);
    if (party.wait_costs != nullptr && rank != party.rank) {
      atomicAdd(reinterpret_cast<unsigned long long*>(&party.wait_costs[rank]), thread_clock_ns() - block.begin);
    }
  }
  return !block_fails(party, block);
}

/// Waits until `rank`, whether all count on it or not, stores no rows here any more; false if that takes too long.
__device__ inline bool thread_wait_until_stopped(const Party& party, const BlockState& block, int rank) {
  const Slot slot(party, block.epoch);
  const std::uint64_t* const sent = slot.sent(rank, party.rank);
  const std::uint64_t* const read = slot.read(rank, party.rank);
  const std::uint64_t deadline = thread_clock_ns() + thread_grace_ns(party);
  while (thread_acquire(sent) < block.epoch && thread_acquire(read) < block.epoch) {
    if (thread_takes_part(thread_look(&party.mailbox->ended), rank)) return true;
    if (thread_clock_ns() >= deadline) return false;
  }
  return true;
}

/// All threads. Was this rank given up after it had announced where it takes rows? Then the others may be storing them
/// still, as it waits for no one any more: returns when they have stopped.
__device__ inline bool block_was_abandoned(const Party& party, const BlockState& block) {
  if (!party.masks_lost) return false;
  const std::uint64_t seal = kSealed | thread_having_sent(block.epoch);
  if (__syncthreads_or(threadIdx.x == 0 && thread_look(&thread_own(party).claim) == seal ? 1 : 0) == 0) return false;
  const int rank = static_cast<int>(threadIdx.x);
  if (rank < party.num_ranks && !thread_is_masked(block, rank)) {
    static_cast<void>(thread_wait_until_stopped(party, block, rank));
  }
  __syncthreads();
  return true;
}

/// Waits until the rows of `rank` are here. If it is lost before they are, then until it has stopped: after the
/// operation its rows' places are used for something else.
__device__ inline FailureKind thread_wait_for_rows(const Party& party, BlockState& block, int rank) {
  const std::uint64_t* const sent = Slot(party, block.epoch).sent(rank, party.rank);
  const FailureKind kind = thread_wait(party, block, rank, sent, block.epoch, thread_having_sent(block.epoch));
  if (kind != FailureKind::kNone || !thread_is_masked(block, rank)) return kind;
  return thread_wait_until_stopped(party, block, rank) ? FailureKind::kLost : FailureKind::kStoring;
}

/// All threads. This rank's rows are where they belong. Are the others'?
__device__ inline bool block_await_rows(const WorstCaseArgs& args, BlockState& block) {
  const Party& party = args.party;
  const int rank = static_cast<int>(threadIdx.x);
  __threadfence_system();
  if (party.masks_lost && !block_claims(party, block, thread_having_sent(block.epoch))) return false;
  if (rank < party.num_ranks) thread_release(Slot(party, block.epoch).sent(party.rank, rank), block.epoch);
  return block_await_all(args, block, [&](int other) { return thread_wait_for_rows(party, block, other); });
}

/// All threads: until all have read this rank's rows. One that is lost meanwhile has no use for them.
__device__ inline void block_await_reads(const WorstCaseArgs& args, BlockState& block) {
  const Party& party = args.party;
  const Slot slot(party, block.epoch);
  static_cast<void>(block_await_all(args, block, [&](int other) {
    const std::uint64_t stage = thread_announcing(block.epoch + 1);
    return thread_wait(party, block, other, slot.read(other, party.rank), block.epoch, stage);
  }));
}

/// All threads.
__device__ inline void block_add_statistics(const WorstCaseArgs& args, const BlockState& block) {
  const Party& party = args.party;
  const plan::ExpertMap experts(args.num_experts, party.num_ranks);
  for (int e = static_cast<int>(threadIdx.x); e < experts.count(party.rank); e += block_threads()) {
    int sum = 0;
    thread_for_each_count(party, block, experts.begin(party.rank) + e, [&](int /*rank*/, int count) { sum += count; });
    atomicAdd(&args.statistics[e], sum);
  }
}

/// All threads. The rows of masked ranks keep their places in the result of a cached dispatch.
__device__ inline void block_clear_absent_rows(const WorstCaseArgs& args, const BlockState& block) {
  const Party& party = args.party;
  const CountTable table = thread_table_of(args.handle, party);
  const auto clear = [&](std::byte* rows, std::int64_t row_bytes, int rank) {
    const std::int64_t begin = table.row_begin(rank, party.rank) * row_bytes;
    const std::int64_t end = begin + table.at(rank, party.rank) * row_bytes;
    for (std::int64_t i = begin + threadIdx.x; i < end; i += block_threads()) rows[i] = std::byte{0};
  };
  for (int rank = 0; rank < party.num_ranks; ++rank) {
    if (!thread_is_masked(block, rank)) continue;
    clear(args.recv_x, args.row_bytes, rank);
    clear(args.recv_scales, args.scale_row_bytes, rank);
  }
}

/// All threads. False if the rows that this rank has received, in part, are none.
__device__ inline bool block_receive_rows(const WorstCaseArgs& args, BlockState& block) {
  if (!block_await_rows(args, block)) return false;
  if (args.statistics != nullptr) block_add_statistics(args, block);
  const bool keeps_places = args.kind == OperationKind::kCachedDispatch && args.groups.alignment == 0;
  if (keeps_places && block.masked != 0) block_clear_absent_rows(args, block);
  return block_has_standing(args.party, block);
}

/// All threads of the last block, after the rows: waits until all rows for this rank are here (dispatch), or until all
/// have read this rank's (combine), and ends the operation. `clear` is called by all threads if rows may have been
/// received that are none: then they are to look like none. Not inlined, so that it takes no registers from the loops
/// over rows.
template <typename Clear>
__device__ inline __noinline__ void block_complete_worst_case(const WorstCaseArgs& args, BlockState& block,
                                                              const Clear& clear) {
  const Party& party = args.party;
  if (threadIdx.x == 0) {
    thread_own(party).is_exchanged = 0;
    thread_own(party).rows_found = 0;
    block.begin = thread_clock_ns();
    block.deadline = block.begin + party.timeout_ns;
  }
  __syncthreads();
  const bool is_dispatch = args.send != nullptr;
  const bool has_failed = is_dispatch ? args.send->num_recv < 0 : args.reduce->is_failed != 0;
  bool has_rubbish = false;
  if (!has_failed) has_rubbish = is_dispatch ? !block_receive_rows(args, block) : !block_has_standing(party, block);
  if (!block.is_broken) {
    __syncthreads();
    block_announce_read(party, block);
  }
  if (is_dispatch) {
    has_rubbish |= block_was_abandoned(party, block);
    if (has_rubbish && args.kind == OperationKind::kWorstCaseDispatch) block_clear_handle(args);
    if (has_rubbish) clear();
  } else if (!has_failed) {
    block_await_reads(args, block);
  }
  if (party.notes_progress && threadIdx.x / kWarpThreads == 1) warp_note_progress(party, block);
  block_finish(party, block, args.completion);
}

}  // namespace crossdock::cuda::device
