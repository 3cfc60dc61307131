// Low-latency mode on a CUDA device, ranks as threads, against the oracle bit for bit.
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "backend/cuda/device_probe.hpp"
#include "backend/cuda/low_latency_worlds.hpp"
#include "support/ranks.hpp"

namespace crossdock::testing {
namespace {

class CudaLowLatency : public ::testing::TestWithParam<int> {
 protected:
  void SetUp() override {
    if (const std::string reason = why_no_cuda_device(); !reason.empty()) GTEST_SKIP() << reason;
  }
};

TEST_P(CudaLowLatency, EqualsTheOracleOnRandomWorlds) {
  constexpr std::uint64_t kWorlds = 60;
  std::vector<LowLatencyWorld> worlds;
  for (std::uint64_t seed = 1; seed <= kWorlds; ++seed) {
    worlds.push_back(
        make_low_latency_world(1000 * static_cast<std::uint64_t>(GetParam()) + seed, {.num_ranks = GetParam()}));
  }
  run_as_threads(GetParam(), [&](const auto& bootstrap) { run_cuda_low_latency_worlds(bootstrap, worlds); });
}

/// Chunks of both sizes, short ones, such that do not get smaller, and rows of every alignment.
TEST_P(CudaLowLatency, EqualsTheOracleWithLogFmt) {
  std::vector<LowLatencyWorld> worlds;
  std::uint64_t seed = 500;
  for (const std::int64_t hidden :
       {1, 8, 10, 11, 16, 17, 21, 40, 127, 128, 136, 512, 520, 522, 640, 1016, 1024, 1025, 1536, 2048, 2056, 3072}) {
    for (int i = 0; i < 4; ++i) {
      worlds.push_back(make_low_latency_world(
          ++seed,
          {.num_ranks = GetParam(), .max_experts = 12, .hidden = hidden, .max_tokens = 6, .only_logfmt = true}));
    }
  }
  run_as_threads(GetParam(), [&](const auto& bootstrap) { run_cuda_low_latency_worlds(bootstrap, worlds); });
}

TEST_P(CudaLowLatency, EqualsTheOracleWithManyInFlight) {
  constexpr std::uint64_t kSchedules = 10;
  std::vector<LowLatencySchedule> schedules;
  for (std::uint64_t seed = 1; seed <= kSchedules; ++seed) {
    schedules.push_back(make_low_latency_schedule(seed, GetParam(), true));
  }
  run_as_threads(GetParam(), [&](const auto& bootstrap) { run_cuda_low_latency_schedules(bootstrap, schedules); });
}

INSTANTIATE_TEST_SUITE_P(Ranks, CudaLowLatency, ::testing::Values(1, 2, 3, 5, 8), ::testing::PrintToStringParamName());

}  // namespace
}  // namespace crossdock::testing
