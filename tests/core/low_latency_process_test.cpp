// Random schedules of both modes, ranks as processes: as engines run, with nothing shared but the windows.
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "core/low_latency_schedule.hpp"
#include "support/ranks.hpp"

namespace crossdock::testing {
namespace {

class LowLatencyAsProcesses : public ::testing::TestWithParam<int> {};

TEST_P(LowLatencyAsProcesses, EqualsTheOracleWithBothModesInFlight) {
  const int num_ranks = GetParam();
  constexpr int kSchedules = 8;
  std::vector<LowLatencySchedule> schedules;
  for (int i = 0; i < kSchedules; ++i) {
    schedules.push_back(make_low_latency_schedule(static_cast<std::uint64_t>(1000 * num_ranks + i), num_ranks));
  }
  const auto statuses = run_as_processes(num_ranks, [&](const std::shared_ptr<Bootstrap>& bootstrap) {
    Buffer buffer(bootstrap, low_latency_schedule_options());
    for (const LowLatencySchedule& schedule : schedules) run_low_latency_schedule(buffer, schedule);
  });
  for (std::size_t rank = 0; rank < statuses.size(); ++rank) {
    EXPECT_EQ(statuses[rank], ExitStatus{}) << "rank " << rank << ": see its message above";
  }
}

INSTANTIATE_TEST_SUITE_P(Ranks, LowLatencyAsProcesses, ::testing::Values(1, 2, 3, 5, 8, 9),
                         ::testing::PrintToStringParamName());

}  // namespace
}  // namespace crossdock::testing
