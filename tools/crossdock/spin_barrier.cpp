#include "crossdock/spin_barrier.hpp"

#include <sched.h>

#include "base/deadline.hpp"
#include "base/error.hpp"

namespace crossdock::tool {

void SpinBarrier::wait(int num_ranks, int spins, std::chrono::milliseconds timeout) {
  const auto generation = generation_.load(std::memory_order_relaxed);
  // Release: this rank's writes; acquire: the last one to come sees those of all others.
  if (arrived_.fetch_add(1, std::memory_order_acq_rel) + 1 == static_cast<std::uint32_t>(num_ranks)) {
    arrived_.store(0, std::memory_order_relaxed);                  // ordered before the release below
    generation_.store(generation + 1, std::memory_order_release);  // matches the acquire in await()
  } else {
    await(generation, num_ranks, spins, timeout);
  }
}

void SpinBarrier::await(std::uint32_t generation, int num_ranks, int spins, std::chrono::milliseconds timeout) const {
  constexpr int kPollsPerClock = 256;  // reading the clock costs more than a yield
  const Deadline deadline(timeout);
  for (int polls = 1; generation_.load(std::memory_order_acquire) == generation; ++polls) {
    if (polls > spins) ::sched_yield();
    if (broken_.load(std::memory_order_acquire) != 0) {
      throw make_error(ErrorCode::kPeerLost, "another rank gave up");
    }
    if (polls % kPollsPerClock == 0 && deadline.passed()) {
      throw make_error(ErrorCode::kTimeout, "only {} of {} ranks came to a barrier within {} ms",
                       arrived_.load(std::memory_order_relaxed), num_ranks, timeout.count());
    }
  }
}

}  // namespace crossdock::tool
