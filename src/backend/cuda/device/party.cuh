// How the blocks of a kernel speak to each other, to other ranks and to the host.
#pragma once

#include "backend/cuda/device/completion.cuh"
#include "backend/cuda/device/instructions.cuh"
#include "backend/cuda/device/lost_ranks.cuh"
#include "backend/cuda/device/party.hpp"
#include "backend/cuda/device/ranks.cuh"

namespace crossdock::cuda::device {

/// The words of the windows that belong to one operation.
class Slot {
 public:
  __device__ Slot(const Party& party, std::uint64_t epoch)
      : party_(party), layout_(party.num_ranks, party.max_experts), slot_(epoch % kSlots) {}

  /// What rank `of` says, in the window of rank `at`.
  [[nodiscard]] __device__ Record& record(int of, int at) const {
    return *reinterpret_cast<Record*>(party_.windows[at] + layout_.record(slot_, of));
  }
  [[nodiscard]] __device__ std::uint64_t* read(int of, int at) const {
    return reinterpret_cast<std::uint64_t*>(party_.windows[at] + layout_.read(slot_, of));
  }
  [[nodiscard]] __device__ std::uint64_t* sent(int of, int at) const {
    return reinterpret_cast<std::uint64_t*>(party_.windows[at] + layout_.sent(slot_, of));
  }
  [[nodiscard]] __device__ Placement& placement(int of, int at) const {
    return *reinterpret_cast<Placement*>(party_.windows[at] + layout_.placement(slot_, of));
  }
  [[nodiscard]] __device__ std::int32_t* rank_counts(int of, int at) const {
    return reinterpret_cast<std::int32_t*>(party_.windows[at] + layout_.rank_counts(slot_, of));
  }
  [[nodiscard]] __device__ std::int32_t* counts(int of, int at) const {
    return reinterpret_cast<std::int32_t*>(party_.windows[at] + layout_.counts(slot_, of));
  }
  [[nodiscard]] __device__ char* reason(int at) const {
    return reinterpret_cast<char*>(party_.windows[at] + layout_.reason(slot_));
  }
  [[nodiscard]] __device__ std::uint64_t index() const { return slot_; }

 private:
  const Party& party_;
  ControlLayout layout_;
  std::uint64_t slot_;
};

__device__ inline OwnState& thread_own(const Party& party) { return thread_state_of(party, party.rank); }

__device__ inline bool thread_sends(const Party& party) {
  return (static_cast<unsigned>(party.phases) & static_cast<unsigned>(Phases::kSend)) != 0;
}
__device__ inline bool thread_receives(const Party& party) {
  return (static_cast<unsigned>(party.phases) & static_cast<unsigned>(Phases::kReceive)) != 0;
}

/// What all threads of a block know of the operation. Lies in shared memory.
struct BlockState {
  std::uint64_t epoch;
  std::uint64_t masked;    ///< bit r: the operation goes without rank r
  std::uint64_t lost;      ///< those of them that were given up, in this operation or before
  std::uint64_t deadline;  ///< of the half that runs
  std::uint64_t begin;     ///< of the half that runs
  bool is_broken;          ///< by an earlier operation, or the first half: nothing is to be waited for
  unsigned failure;        ///< the least rank << 8 | FailureKind, or kNoFailure
  bool is_last;            ///< of the blocks
  bool has_failed;         ///< the block has reported a failure; in the last one: any block has
  std::int64_t detail;     ///< of the failure

  static constexpr unsigned kNoFailure = 0xFFFFFFFFU;
};

/// All threads call it, first of all.
__device__ inline void block_begin(const Party& party, BlockState& block) {
  if (threadIdx.x == 0) {
    const OwnState& own = thread_own(party);
    block.epoch = thread_sends(party) ? own.epoch + 1 : *party.epoch;
    block.masked = own.masked;
    block.lost = own.lost;
    // Another block of this kernel may have found a failure already: that is none of an earlier operation.
    const std::uint64_t broken = thread_look(&own.broken);
    block.is_broken = broken != 0 && (broken != block.epoch || !thread_sends(party));
    block.failure = BlockState::kNoFailure;
    block.has_failed = false;
    block.detail = 0;
    block.begin = thread_clock_ns();
    block.deadline = block.begin + party.timeout_ns;
  }
  __syncthreads();
}

__device__ inline bool thread_is_masked(const BlockState& block, int rank) {
  return thread_takes_part(block.masked, rank);
}

/// The least that takes part.
__device__ inline int thread_first_rank(const BlockState& block) {
  return __ffsll(static_cast<long long>(~block.masked)) - 1;
}

/// Tells the host why the operation failed; one thread of the kernel is heard.
__device__ inline void thread_report(const Party& party, BlockState& block, FailureKind kind, int rank) {
  block.has_failed = true;
  const std::uint64_t epoch = block.epoch;
  OwnState& own = thread_own(party);
  if (breaks_buffer(kind)) thread_set(&own.broken, epoch);
  auto* const reported = reinterpret_cast<unsigned long long*>(&own.failed_epoch);
  const unsigned long long before = thread_look(&own.failed_epoch);
  if (before == epoch || atomicCAS(reported, before, static_cast<unsigned long long>(epoch)) != before) return;
  const Slot slot(party, epoch);
  Failure& failure = party.mailbox->failures[party.ordinal % Mailbox::kFailures];
  failure.kind = kind;
  failure.rank = rank;
  failure.epoch = epoch;
  failure.first_rank = thread_first_rank(block);
  failure.detail = block.detail;
  failure.first = slot.record(failure.first_rank, party.rank);
  failure.theirs = slot.record(rank, party.rank);
  thread_release(&failure.ordinal, party.ordinal);
  thread_release(&party.mailbox->num_failures, ++own.num_failures);
}

/// The timeout, or a second: what others, and a rank that was lost, need to hear of a loss.
__device__ inline std::uint64_t thread_grace_ns(const Party& party) {
  constexpr std::uint64_t kShortestGraceNs = 1'000'000'000;
  return party.timeout_ns > kShortestGraceNs ? party.timeout_ns : kShortestGraceNs;
}

/// May a rank be given up now because it is late? One at a time: those who are left come at different times if one of
/// them hears of a loss later than another.
__device__ inline bool thread_loses_patience(const Party& party, std::uint64_t now) {
  std::uint64_t* const last_loss = &thread_own(party).last_loss;
  const std::uint64_t before = thread_look(last_loss);
  return (before == 0 || now >= before + thread_grace_ns(party)) && thread_swap(last_loss, before, now);
}

/// The operation goes on without the rank.
__device__ inline void thread_exclude(const Party& party, BlockState& block, int rank) {
  thread_set(&thread_own(party).last_loss, thread_clock_ns());
  const unsigned long long bit = 1ULL << static_cast<unsigned>(rank);
  atomicOr(reinterpret_cast<unsigned long long*>(&block.masked), bit);
  atomicOr(reinterpret_cast<unsigned long long*>(&block.lost), bit);
}

/// What becomes of a rank that is still waited for: kNone if it may come, or if the block has gone on without it. Not
/// inlined, see block_await_records.
__device__ inline __noinline__ FailureKind thread_reconsider(const Party& party, BlockState& block, int rank,
                                                             std::uint64_t stage) {
  constexpr std::uint64_t kClaimGraceNs = 1'000'000'000;  // between a claim and what it announces, at most
  const std::uint64_t gone = thread_look(&party.mailbox->gone);
  if (thread_takes_part(gone, party.rank)) return FailureKind::kMasked;
  const bool is_gone = thread_takes_part(gone, rank);
  if (!party.masks_lost) return is_gone ? FailureKind::kGone : FailureKind::kNone;
  if (thread_is_given_up(party)) return FailureKind::kMasked;  // then it has no say about others
  const std::uint64_t now = thread_clock_ns();
  const bool is_late = now >= block.deadline;
  bool is_lost = thread_is_lost(party, rank, stage);
  if (!is_lost && (is_gone || (is_late && thread_loses_patience(party, now)))) {
    is_lost = thread_gives_up(party, rank, stage);
    if (!is_lost && is_late && now >= block.deadline + party.timeout_ns + kClaimGraceNs) return FailureKind::kTimeout;
  }
  if (is_lost) thread_exclude(party, block, rank);
  return FailureKind::kNone;
}

/// Waits until *word, which `rank` writes, is at least `required`. If ranks that are lost are to be masked, and this
/// one does not get to `stage` any more, the block goes on without it.
__device__ inline FailureKind thread_wait(const Party& party, BlockState& block, int rank, const std::uint64_t* word,
                                          std::uint64_t required, std::uint64_t stage) {
  constexpr unsigned kPollsPerClock = 64;
  constexpr unsigned kPollsPerHost = 4096;  // the host's word is far away, and so are those of other devices
  // The look that finds it is also what acquires it: another access would take as long as all else here.
  const auto has_come = [&] { return thread_acquire(word) >= required; };
  for (unsigned polls = 1; !has_come(); ++polls) {
    if (polls % kPollsPerClock != 0) continue;
    if (thread_look(&thread_own(party).broken) != 0) return FailureKind::kBroken;
    if (!party.masks_lost && thread_clock_ns() >= block.deadline) return FailureKind::kTimeout;
    if (polls % kPollsPerHost != 0) continue;
    const FailureKind kind = thread_reconsider(party, block, rank, stage);
    if (kind != FailureKind::kNone && !has_come()) return kind;
    if (thread_is_masked(block, rank)) return FailureKind::kNone;
  }
  return FailureKind::kNone;
}

/// By any thread, before block_fails.
__device__ inline void thread_note(BlockState& block, FailureKind kind, int rank) {
  if (kind != FailureKind::kNone)
    atomicMin(&block.failure, static_cast<unsigned>(rank) << 8U | static_cast<unsigned>(kind));
}

/// All threads call it. Has any of them noted a failure? Then the host is told.
__device__ inline bool block_fails(const Party& party, BlockState& block) {
  // Who has noted one knows of it; whether the others do already is the same.
  if (__syncthreads_or(block.failure != BlockState::kNoFailure ? 1 : 0) == 0) return false;
  const unsigned failure = block.failure;
  __syncthreads();  // the next one is noted after this one was read
  if (threadIdx.x == 0) {
    thread_report(party, block, static_cast<FailureKind>(failure & 0xFFU), static_cast<int>(failure >> 8U));
  }
  return true;
}

/// The threads `first_thread` and on, one for each rank, wait until the ranks have read what the operation's slot held
/// before: then it may be written. block_fails says whether that went well.
__device__ inline void block_await_slot(const Party& party, BlockState& block, int first_thread) {
  const int rank = static_cast<int>(threadIdx.x) - first_thread;
  if (rank < 0 || rank >= party.num_ranks || block.epoch <= kSlots || thread_is_masked(block, rank)) return;
  const Slot slot(party, block.epoch);
  const std::uint64_t before = block.epoch - kSlots;
  const std::uint64_t stage = thread_announcing(block.epoch);
  thread_note(block, thread_wait(party, block, rank, slot.read(rank, party.rank), before, stage), rank);
}

/// The same for what was staged before where a captured operation, or another one, stages: `header` says what.
__device__ inline void block_await_parcel(const Party& party, BlockState& block, const ParcelHeader& header,
                                          int first_thread) {
  const std::uint64_t before = header.epoch;
  const int rank = static_cast<int>(threadIdx.x) - first_thread;
  if (rank >= 0 && rank < party.num_ranks && header.stamp == (ParcelHeader::kStamp ^ before) && before < block.epoch &&
      !thread_is_masked(block, rank)) {
    const Slot slot(party, before);
    const std::uint64_t stage = thread_announcing(block.epoch);
    thread_note(block, thread_wait(party, block, rank, slot.read(rank, party.rank), before, stage), rank);
  }
}

/// All threads of a block that stages. May it?
__device__ inline bool block_parcel_is_free(const Party& party, BlockState& block, const ParcelHeader& header,
                                            bool is_captured) {
  if (!is_captured) return true;  // then the memory is new
  block_await_parcel(party, block, header, 0);
  return !block_fails(party, block);
}

/// When everything is staged.
__device__ inline void thread_stamp_parcel(const BlockState& block, std::byte* parcel) {
  *reinterpret_cast<ParcelHeader*>(parcel) = {ParcelHeader::kStamp ^ block.epoch, block.epoch};
}

/// Of ranks that are lost some hear later than others.
[[nodiscard]] __device__ inline bool thread_agree(const Record& a, const Record& b, std::uint64_t lost) {
  // Without branches: one after the other would take longer than all.
  const int differences = (a.hidden != b.hidden) + (a.max_tokens != b.max_tokens) + (a.handle_epoch != b.handle_epoch) +
                          (a.kind != b.kind) + (a.num_topk != b.num_topk) + (a.num_experts != b.num_experts) +
                          (a.id_bytes != b.id_bytes) + (a.format != b.format) + (a.num_scales != b.num_scales) +
                          (a.dtypes != b.dtypes) + (a.alignment != b.alignment) +
                          ((a.masked | lost) != (b.masked | lost));
  return differences == 0;
}

/// All threads. Waits until every rank has said what it does, and copies it to `records`, [R] in shared memory; false
/// if one does not do its part, or something else. Not inlined, so that it takes no registers from the loops over rows.
__device__ inline __noinline__ bool block_await_records(const Party& party, BlockState& block, Record* records) {
  const int rank = static_cast<int>(threadIdx.x);
  bool takes_part = rank < party.num_ranks && !thread_is_masked(block, rank);
  if (takes_part) {
    const Record& theirs = Slot(party, block.epoch).record(rank, party.rank);
    const FailureKind kind =
        thread_wait(party, block, rank, &theirs.epoch, block.epoch, thread_announcing(block.epoch));
    records[rank] = theirs;
    thread_note(block, kind, rank);
    takes_part = !thread_is_masked(block, rank);
    if (takes_part && kind == FailureKind::kNone && records[rank].obstacle != Obstacle::kNone) {
      thread_note(block, FailureKind::kObstacle, rank);
    }
    if (blockIdx.x == 0 && party.wait_costs != nullptr && rank != party.rank) {
      atomicAdd(reinterpret_cast<unsigned long long*>(&party.wait_costs[rank]), thread_clock_ns() - block.begin);
    }
  }
  if (block_fails(party, block)) return false;
  if (takes_part && !thread_agree(records[rank], records[thread_first_rank(block)], block.lost)) {
    thread_note(block, FailureKind::kMismatch, rank);
  }
  return !block_fails(party, block);
}

/// All threads, of which the first says whether the others go without this rank. Then it does nothing any more until
/// they let it in again. False if it stands aside.
__device__ inline bool block_stays(const Party& party, BlockState& block, bool is_given_up) {
  if (__syncthreads_or(is_given_up ? 1 : 0) == 0) return true;
  if (threadIdx.x == 0) {
    thread_report(party, block, FailureKind::kMasked, party.rank);
    thread_set(&thread_own(party).broken, block.epoch);
  }
  __syncthreads();
  return false;
}

/// All threads of a block: do the others still count on this rank? If not they may have changed what it has read.
__device__ inline bool block_has_standing(const Party& party, BlockState& block) {
  return !party.masks_lost || block_stays(party, block, threadIdx.x == 0 && thread_is_given_up(party));
}

/// All threads, if ranks that are lost are masked. False if this one was given up before it got so far.
__device__ inline bool block_claims(const Party& party, BlockState& block, std::uint64_t stage) {
  return block_stays(party, block, threadIdx.x == 0 && !thread_claims(party, stage));
}

/// All threads. Writes this rank's record to every window; epoch and masks need not be filled in.
__device__ inline void block_announce(const Party& party, BlockState& block, Record record) {
  if (party.masks_lost && !block_claims(party, block, thread_announcing(block.epoch))) return;
  const int rank = static_cast<int>(threadIdx.x);
  if (rank >= party.num_ranks) return;
  record.masked = block.masked;
  Record& there = Slot(party, block.epoch).record(party.rank, rank);
  there.offset = record.offset;
  const auto* from = reinterpret_cast<const uint4*>(&record);
  auto* to = reinterpret_cast<uint4*>(&there);
#pragma unroll
  for (int i = 1; i < static_cast<int>(sizeof(Record) / sizeof(uint4)); ++i) to[i] = from[i];
  thread_release(&there.epoch, block.epoch);
}

/// All threads, of the last block. Tells the others that this rank reads their windows no more for this operation.
__device__ inline void block_announce_read(const Party& party, const BlockState& block) {
  const int rank = static_cast<int>(threadIdx.x);
  if (rank >= party.num_ranks) return;
  // No fence: it orders reads only, and what was read has arrived, as it was used before the blocks ended.
  thread_set(Slot(party, block.epoch).read(party.rank, rank), block.epoch);
}

/// All threads: has this block ended last? It then sees what all blocks have stored, and so does who acquires what it
/// releases. `ended` is 0 between kernels.
__device__ inline bool block_ends_last(std::uint32_t* ended, BlockState& block) {
  constexpr unsigned kOne = 1;
  constexpr unsigned kFailed = 1U << 16U;  // there are not as many blocks
  __syncthreads();
  if (threadIdx.x == 0) {
    const unsigned before = thread_add_here(ended, block.has_failed ? kOne + kFailed : kOne);
    block.is_last = before % kFailed + 1U == gridDim.x;
    block.has_failed |= before >= kFailed;
    if (block.is_last) *ended = 0;
  }
  __syncthreads();
  return block.is_last;
}

/// One warp: finds out how far all ranks have read, and tells the host.
__device__ inline void warp_note_progress(const Party& party, const BlockState& block) {
  OwnState& own = thread_own(party);
  const int lane = static_cast<int>(threadIdx.x % kWarpThreads);
  std::uint64_t epoch = own.read_epoch;
  std::uint64_t ordinal = 0;
  for (; epoch < own.epoch; ++epoch) {
    const Slot slot(party, epoch + 1);
    bool have_read = true;
    for (int rank = lane; rank < party.num_ranks; rank += kWarpThreads) {
      have_read &= thread_is_masked(block, rank) || thread_acquire(slot.read(rank, party.rank)) > epoch;
    }
    if (!__all_sync(0xFFFFFFFFU, have_read)) break;
    if (own.ordinals[slot.index()] != 0) ordinal = own.ordinals[slot.index()];
  }
  if (lane != 0 || epoch == own.read_epoch) return;
  own.read_epoch = epoch;
  if (ordinal != 0) thread_release(&party.mailbox->read_ordinal, ordinal);
}

/// By one thread: operations from the next one on go without the ranks that this one has lost.
__device__ inline void thread_note_lost(const Party& party, const BlockState& block) {
  OwnState& own = thread_own(party);
  if ((block.lost & ~own.lost) == 0) return;
  own.lost |= block.lost;
  own.masked |= block.lost;
  thread_release(&party.mailbox->lost, own.lost);
}

/// The last block: the operation's next half, and the next operation, may run.
__device__ inline void block_finish(const Party& party, const BlockState& block, const Completion& completion) {
  __syncthreads();
  if (threadIdx.x != 0) return;
  OwnState& own = thread_own(party);
  if (thread_sends(party)) {
    own.epoch = block.epoch;
    own.ordinals[block.epoch % kSlots] = party.ordinal;
    if (party.epoch != nullptr) *party.epoch = block.epoch;
  }
  if (party.masks_lost) thread_note_lost(party, block);
  if (completion.flag != nullptr) thread_complete(completion);
}

}  // namespace crossdock::cuda::device
