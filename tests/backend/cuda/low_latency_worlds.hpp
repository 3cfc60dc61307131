// Low-latency worlds and schedules on CUDA devices.
#pragma once

#include <cstdint>
#include <memory>
#include <span>

#include <crossdock/bootstrap.hpp>
#include <crossdock/buffer.hpp>

#include "core/low_latency_schedule.hpp"
#include "core/low_latency_world.hpp"

namespace crossdock::testing {

/// But for the device: see on_device_of.
[[nodiscard]] BufferOptions cuda_low_latency_options();
/// How a rank completes its operations of a world: each way in turn, ranks differ.
[[nodiscard]] OperationOptions cuda_options_of(std::uint64_t seed, int rank);

/// One rank's part. Throws what is not as the oracle says.
void run_cuda_low_latency_worlds(const std::shared_ptr<Bootstrap>& bootstrap, std::span<const LowLatencyWorld> worlds);
void run_cuda_low_latency_schedules(const std::shared_ptr<Bootstrap>& bootstrap,
                                    std::span<const LowLatencySchedule> schedules);

}  // namespace crossdock::testing
