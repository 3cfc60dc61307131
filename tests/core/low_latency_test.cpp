// Random worlds and schedules of low-latency mode, ranks as threads, against the oracle bit for bit.
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "core/low_latency_run.hpp"
#include "core/low_latency_schedule.hpp"
#include "support/ranks.hpp"

namespace crossdock::testing {
namespace {

/// Synchronous, asynchronous and with a hook in turn; ranks differ.
OperationOptions options_of(std::uint64_t seed, int rank) {
  OperationOptions options;
  options.completion = static_cast<Completion>((seed + static_cast<std::uint64_t>(rank)) % 3);
  return options;
}

TEST(LowLatency, EqualsTheOracleOnRandomWorlds) {
  for (std::uint64_t seed = 1; seed <= 100; ++seed) {
    const LowLatencyWorld world = make_low_latency_world(seed);
    const auto body = [&](const std::shared_ptr<Bootstrap>& bootstrap) {
      Buffer buffer(bootstrap, low_latency_schedule_options());
      LowLatencyRun(buffer, world).run(options_of(seed, buffer.rank()));
    };
    ASSERT_NO_THROW(run_as_threads(world.num_ranks(), body)) << world.description();
  }
}

TEST(LowLatency, EqualsTheOracleWithBothModesInFlight) {
  for (std::uint64_t seed = 1; seed <= 40; ++seed) {
    const LowLatencySchedule schedule = make_low_latency_schedule(seed);
    const auto body = [&](const std::shared_ptr<Bootstrap>& bootstrap) {
      Buffer buffer(bootstrap, low_latency_schedule_options());
      run_low_latency_schedule(buffer, schedule);
    };
    ASSERT_NO_THROW(run_as_threads(schedule.worlds[0].num_ranks(), body)) << "seed " << seed;
  }
}

TEST(LowLatency, EightOperationsMayBeInFlight) {
  constexpr std::size_t kInFlight = 8;
  std::vector<LowLatencyWorld> worlds;
  for (std::uint64_t seed = 1; seed <= kInFlight; ++seed) {
    worlds.push_back(make_low_latency_world(seed, {.num_ranks = 3, .max_hidden = 200, .max_tokens = 12}));
  }
  run_as_threads(3, [&](const std::shared_ptr<Bootstrap>& bootstrap) {
    Buffer buffer(bootstrap, low_latency_schedule_options());
    OperationOptions hooked;
    hooked.completion = Completion::kHook;
    std::vector<LowLatencyRun> runs;
    for (const LowLatencyWorld& world : worlds) runs.emplace_back(buffer, world).dispatch(hooked);
    for (LowLatencyRun& run : runs) {
      run.receive_dispatch();
      run.check_dispatch();
    }
    for (LowLatencyRun& run : runs) run.combine(hooked);
    for (LowLatencyRun& run : runs) {
      run.receive_combine();
      run.check_combine();
    }
  });
}

/// The handle may be used for any number of combines, of rows that lie anywhere.
TEST(LowLatency, AHandleServesManyCombines) {
  for (std::uint64_t seed = 200; seed < 206; ++seed) {
    const LowLatencyWorld world = make_low_latency_world(seed, {.num_ranks = 4});
    const auto body = [&](const std::shared_ptr<Bootstrap>& bootstrap) {
      Buffer buffer(bootstrap, low_latency_schedule_options());
      LowLatencyRun run(buffer, world);
      run.dispatch();
      run.receive_dispatch();
      for (std::uint64_t i = 0; i < 20; ++i) {
        run.combine(options_of(seed + i, buffer.rank()));
        run.receive_combine();
        run.check_combine();
      }
    };
    ASSERT_NO_THROW(run_as_threads(world.num_ranks(), body)) << world.description();
  }
}

}  // namespace
}  // namespace crossdock::testing
