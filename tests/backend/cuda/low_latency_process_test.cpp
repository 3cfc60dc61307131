// Low-latency mode on a CUDA device, ranks as processes, against the oracle bit for bit.
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "backend/cuda/device_probe.hpp"
#include "backend/cuda/low_latency_worlds.hpp"
#include "support/ranks.hpp"

namespace crossdock::testing {
namespace {

class CudaLowLatencyAsProcesses : public ::testing::TestWithParam<int> {};

TEST_P(CudaLowLatencyAsProcesses, EqualsTheOracle) {
  if (const std::string reason = why_no_cuda_device(); !reason.empty()) GTEST_SKIP() << reason;
  constexpr std::uint64_t kWorlds = 20;
  constexpr std::uint64_t kSchedules = 4;
  std::vector<LowLatencyWorld> worlds;
  std::vector<LowLatencySchedule> schedules;
  for (std::uint64_t seed = 1; seed <= kWorlds; ++seed) {
    worlds.push_back(make_low_latency_world(7000 + seed, {.num_ranks = GetParam()}));
  }
  for (std::uint64_t seed = 1; seed <= kSchedules; ++seed) {
    schedules.push_back(make_low_latency_schedule(seed, GetParam(), true));
  }
  const auto statuses = run_as_processes(GetParam(), [&](const std::shared_ptr<Bootstrap>& bootstrap) {
    run_cuda_low_latency_worlds(bootstrap, worlds);
    run_cuda_low_latency_schedules(bootstrap, schedules);
  });
  for (std::size_t rank = 0; rank < statuses.size(); ++rank) {
    EXPECT_EQ(statuses[rank], ExitStatus{}) << "rank " << rank << ": see its message above";
  }
}

INSTANTIATE_TEST_SUITE_P(Ranks, CudaLowLatencyAsProcesses, ::testing::Values(2, 5, 8),
                         ::testing::PrintToStringParamName());

}  // namespace
}  // namespace crossdock::testing
