// As many ranks as one host must bear, as processes.
#include <gtest/gtest.h>

#include "core/refusal.hpp"
#include "core/round_trip.hpp"
#include "support/ranks.hpp"

namespace crossdock::testing {
namespace {

class ProcessCountTest : public ::testing::TestWithParam<int> {};

TEST_P(ProcessCountTest, RoundTrips) {
  const auto statuses = run_as_processes(GetParam(), [](const std::shared_ptr<Bootstrap>& bootstrap) {
    RoundTripShape shape;
    shape.num_experts = 2 * bootstrap->size();
    BufferOptions options = roomy_options();
    options.max_experts = shape.num_experts;
    options.arena_bytes = std::size_t{1} << 16U;
    Buffer buffer(bootstrap, options);
    for (shape.salt = 0; shape.salt < 3; ++shape.salt) run_round_trip(buffer, shape);
  });
  for (const ExitStatus& status : statuses) EXPECT_EQ(status, ExitStatus{});
}

INSTANTIATE_TEST_SUITE_P(Processes, ProcessCountTest, ::testing::Values(1, 2, 5, 16, 64));

}  // namespace
}  // namespace crossdock::testing
