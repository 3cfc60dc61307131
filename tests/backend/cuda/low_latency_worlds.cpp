#include "backend/cuda/low_latency_worlds.hpp"

#include <array>

#include "backend/cuda/cuda_place.hpp"
#include "core/low_latency_run.hpp"
#include "core/world_run.hpp"

namespace crossdock::testing {

BufferOptions cuda_low_latency_options() {
  BufferOptions options = low_latency_schedule_options();
  options.arena_bytes = std::size_t{16} << 20U;
  options.timeout = Milliseconds(5'000);
  return options;
}

OperationOptions cuda_options_of(std::uint64_t seed, int rank) {
  constexpr std::array kWays{Completion::kSynchronous, Completion::kAsynchronous, Completion::kHook,
                             Completion::kStream};
  OperationOptions options;
  options.completion = kWays[(seed + static_cast<std::uint64_t>(rank)) % kWays.size()];
  return options;
}

void run_cuda_low_latency_worlds(const std::shared_ptr<Bootstrap>& bootstrap, std::span<const LowLatencyWorld> worlds) {
  const CudaStreamPlace place(bootstrap->rank());
  Buffer buffer(bootstrap, on_device_of(place, cuda_low_latency_options()));
  for (const LowLatencyWorld& world : worlds) {
    LowLatencyRun(buffer, world, place).run(cuda_options_of(world.seed, buffer.rank()));
  }
}

void run_cuda_low_latency_schedules(const std::shared_ptr<Bootstrap>& bootstrap,
                                    std::span<const LowLatencySchedule> schedules) {
  const CudaStreamPlace place(bootstrap->rank());
  Buffer buffer(bootstrap, on_device_of(place, cuda_low_latency_options()));
  for (const LowLatencySchedule& schedule : schedules) run_low_latency_schedule(buffer, schedule, place);
}

}  // namespace crossdock::testing
