// A barrier in shared memory that costs about as little as one can, so that timings begin together.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>

namespace crossdock::tool {

/// Lives in a SharedBlock. Zero-initialized is ready for use.
class SpinBarrier {
 public:
  /// Returns once `num_ranks` have come; all that they wrote before is visible then. `spins` polls come before the
  /// first yield: 0 where there are more ranks than cores. Throws kTimeout, or kPeerLost after break_off().
  void wait(int num_ranks, int spins, std::chrono::milliseconds timeout);

  /// This rank will not come any more: whoever waits, or will wait, gets kPeerLost at once.
  void break_off() noexcept { broken_.store(1, std::memory_order_release); }

 private:
  void await(std::uint32_t generation, int num_ranks, int spins, std::chrono::milliseconds timeout) const;

  alignas(64) std::atomic<std::uint32_t> arrived_{0};
  alignas(64) std::atomic<std::uint32_t> generation_{0};
  std::atomic<std::uint32_t> broken_{0};
};

}  // namespace crossdock::tool
