// Ranks that are lost while operations run, with Party::masks_lost: how all agree which operation they were lost in.
#pragma once

#include "backend/cuda/device/instructions.cuh"
#include "backend/cuda/device/party.hpp"

namespace crossdock::cuda::device {

/// Of OwnState::claim.
inline constexpr std::uint64_t kSealed = std::uint64_t{1} << 63U;

// How far ranks are is counted in stages, two for each operation: a rank is in the first when it announces it, and in
// the second, of a dispatch without the host, when its rows are where they belong.
__device__ inline std::uint64_t thread_announcing(std::uint64_t epoch) { return 2 * epoch; }
__device__ inline std::uint64_t thread_having_sent(std::uint64_t epoch) { return 2 * epoch + 1; }
__device__ inline std::uint64_t thread_epoch_of(std::uint64_t stage) { return stage / 2; }

__device__ inline OwnState& thread_state_of(const Party& party, int rank) {
  return *reinterpret_cast<OwnState*>(party.windows[rank]);
}

__device__ inline bool thread_swap(std::uint64_t* word, std::uint64_t expected, std::uint64_t value) {
  return atomicCAS_system(reinterpret_cast<unsigned long long*>(word), expected, value) == expected;
}

/// Before this rank tells the others that it is so far. False if they have given it up.
__device__ inline bool thread_claims(const Party& party, std::uint64_t stage) {
  std::uint64_t* const claim = &thread_state_of(party, party.rank).claim;
  const std::uint64_t before = thread_look(claim);
  return (before & kSealed) == 0 && thread_swap(claim, before, stage);
}

__device__ inline bool thread_is_given_up(const Party& party) {
  return (thread_look(&thread_state_of(party, party.rank).claim) & kSealed) != 0;
}

/// Does the rank not get to `stage`, because it was given up in it or before? `claim` is that rank's word. One that
/// was given up and let in again since has its past beside it.
__device__ inline bool thread_is_sealed_for(const OwnState& theirs, std::uint64_t claim, std::uint64_t stage) {
  if ((claim & kSealed) != 0) return (claim & ~kSealed) <= stage;
  if (claim < stage) return false;
  const std::uint64_t sealed = thread_look(&theirs.sealed_stage);
  return sealed != 0 && sealed <= stage && thread_epoch_of(stage) < thread_look(&theirs.admitted_epoch);
}

__device__ inline bool thread_is_lost(const Party& party, int rank, std::uint64_t stage) {
  const OwnState& theirs = thread_state_of(party, rank);
  return thread_is_sealed_for(theirs, thread_look(&theirs.claim), stage);
}

/// Gives `rank` up from `stage` on, unless it has claimed that one. Returns whether all go on without it from there;
/// the same on all ranks.
__device__ inline bool thread_gives_up(const Party& party, int rank, std::uint64_t stage) {
  OwnState& theirs = thread_state_of(party, rank);
  for (;;) {
    const std::uint64_t before = thread_look(&theirs.claim);
    if ((before & kSealed) != 0 || before >= stage) return thread_is_sealed_for(theirs, before, stage);
    if (thread_swap(&theirs.claim, before, kSealed | stage)) return true;
  }
}

/// Lets a rank in again: its next operation is the one after `epoch`. All that do so say the same.
__device__ inline void thread_admit(OwnState& theirs, std::uint64_t epoch) {
  const std::uint64_t before = thread_look(&theirs.claim);
  if ((before & kSealed) != 0) thread_set(&theirs.sealed_stage, before & ~kSealed);
  thread_set(&theirs.admitted_epoch, epoch);
  __threadfence_system();
  if ((before & kSealed) != 0) static_cast<void>(thread_swap(&theirs.claim, before, thread_announcing(epoch)));
}

}  // namespace crossdock::cuda::device
