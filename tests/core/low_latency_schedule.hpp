// Operations of both modes in random order on one buffer, several low-latency ones in flight.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include <crossdock/buffer.hpp>

#include "core/low_latency_world.hpp"
#include "support/world_tensor.hpp"

namespace crossdock::testing {

/// The order is common to all ranks; how each completes its operations is not.
struct LowLatencySchedule {
  enum class Action : std::uint8_t { kDispatch, kCombine, kThroughput };
  struct Step {
    Action action = Action::kDispatch;
    std::size_t world = 0;  ///< of `worlds`; of a throughput round trip its salt
  };

  std::uint64_t seed = 0;
  std::vector<LowLatencyWorld> worlds;  ///< each is dispatched and combined once
  std::vector<Step> steps;
};

/// 0 ranks leave it to chance, as make_low_latency_world does. Only low-latency operations if `is_plain`.
[[nodiscard]] LowLatencySchedule make_low_latency_schedule(std::uint64_t seed, int num_ranks = 0,
                                                           bool is_plain = false);

/// Collective. Throws what the buffer throws, and std::runtime_error with the seed if anything is not as the oracle
/// says.
void run_low_latency_schedule(Buffer& buffer, const LowLatencySchedule& schedule,
                              const TensorPlace& place = TensorPlace());

/// How a buffer for schedules must be made.
[[nodiscard]] BufferOptions low_latency_schedule_options();

}  // namespace crossdock::testing
