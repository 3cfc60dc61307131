// Ranks are processes, and one is killed in each phase of a low-latency pair: the others hear of it soon, or go on
// without it, with the results that the oracle has for that.
#include <gtest/gtest.h>

#include <chrono>
#include <csignal>
#include <functional>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include <fmt/format.h>

#include "core/low_latency_run.hpp"
#include "core/refusal.hpp"
#include "support/ranks.hpp"

namespace crossdock::testing {
namespace {

constexpr int kRanks = 4;
constexpr int kVictim = 1;
const std::vector<int> kNobody{};
const std::vector<int> kThatRank{kVictim};
constexpr std::chrono::milliseconds kSoon{1000};  // while the deadline is 100 s

using Clock = std::chrono::steady_clock;

/// Expectations of GoogleTest are lost in forked ranks.
template <typename... Args>
void demand(bool condition, fmt::format_string<Args...> text, Args&&... args) {
  if (!condition) throw std::runtime_error(fmt::format(text, std::forward<Args>(args)...));
}

/// How far the victim comes.
enum class Moment : std::uint8_t { kBeforeDispatch, kInDispatch, kBeforeCombine, kInCombine };

std::string name_of(Moment moment) {
  switch (moment) {
    case Moment::kBeforeDispatch: return "BeforeItCallsDispatch";
    case Moment::kInDispatch: return "BetweenTheHalvesOfDispatch";
    case Moment::kBeforeCombine: return "BeforeItCallsCombine";
    case Moment::kInCombine: return "BetweenTheHalvesOfCombine";
  }
  return "";
}

struct Death {
  Moment moment;
  LowLatencySource source;  ///< of the rows that the others combine

  friend void PrintTo(const Death& death, std::ostream* out) { *out << name_of(death.moment); }
};

/// Survivors differ in how they complete operations.
OperationOptions options_of(int rank) {
  OperationOptions options;
  options.completion = static_cast<Completion>(rank % 3);
  return options;
}

LowLatencyWorld world_of(const Death& death, std::uint64_t seed) {
  LowLatencyWorld world =
      make_low_latency_world(seed, {.num_ranks = kRanks, .max_experts = 16, .max_hidden = 200, .max_tokens = 8});
  world.combine.format = reference::low_latency::WireFormat::kBfloat16;
  world.only_source = death.source;
  return with_masked(std::move(world), kNobody, kNobody);
}

[[noreturn]] void die_at(Moment moment, Buffer& buffer, const LowLatencyWorld& world) {
  OperationOptions hooked;
  hooked.completion = Completion::kHook;
  LowLatencyRun run(buffer, world);
  if (moment != Moment::kBeforeDispatch) run.dispatch(hooked);
  if (moment > Moment::kInDispatch) run.receive_dispatch();
  if (moment == Moment::kInCombine) run.combine(hooked);
  std::raise(SIGKILL);
  throw std::logic_error("alive");
}

using Survival = std::function<void(Buffer&, const LowLatencyWorld&)>;

void run_with_victim(const BufferOptions& options, const Death& death, std::uint64_t seed, const Survival& survive) {
  const LowLatencyWorld world = world_of(death, seed);
  const auto statuses = run_as_processes(kRanks, [&](const std::shared_ptr<Bootstrap>& bootstrap) {
    Buffer buffer(bootstrap, options);
    run_low_latency_round_trip(buffer);
    if (buffer.rank() == kVictim) die_at(death.moment, buffer, world);
    survive(buffer, world);
  });
  for (std::size_t rank = 0; rank < statuses.size(); ++rank) {
    SCOPED_TRACE(fmt::format("seed {}, rank {}", seed, rank));
    EXPECT_EQ(statuses[rank].signal, rank == kVictim ? SIGKILL : 0);
    EXPECT_EQ(statuses[rank].code, 0);
  }
}

void demand_loss(const std::string& operation, const std::string& phase, const std::function<void()>& call) {
  const auto begin = Clock::now();
  try {
    call();
  } catch (const Error& error) {
    demand(error.code() == ErrorCode::kPeerLost, "not kPeerLost: {}", error.what());
    demand(error.wait() && error.wait()->rank == kVictim, "blames another: {}", error.what());
    demand(error.wait()->operation == operation && error.wait()->phase == phase, "another wait: {}", error.what());
    demand(std::string(error.what()).find("rank 1") != std::string::npos, "says: {}", error.what());
    demand(Clock::now() - begin < kSoon, "took too long");
    return;
  }
  throw std::runtime_error("nothing was thrown");
}

void demand_broken(Buffer& buffer, const LowLatencyWorld& world) {
  demand(!buffer.is_available(), "a broken buffer is available");
  try {
    LowLatencyRun(buffer, world).run();
  } catch (const Error& error) {
    demand(error.code() == ErrorCode::kState, "not kState: {}", error.what());
    const auto begin = Clock::now();
    buffer.destroy();
    demand(Clock::now() - begin < kSoon, "destroy() took too long");
    return;
  }
  throw std::runtime_error("a broken buffer worked");
}

class LowLatencyDeath : public ::testing::TestWithParam<Death> {};

/// Everything before the loss is as if nothing had happened.
TEST_P(LowLatencyDeath, IsAnErrorSoon) {
  const Death& death = GetParam();
  const auto survive = [&](Buffer& buffer, const LowLatencyWorld& world) {
    LowLatencyRun run(buffer, world);
    const OperationOptions options = options_of(buffer.rank());
    const auto dispatch = [&] {
      run.dispatch(options);
      run.receive_dispatch();
      run.check_dispatch();
    };
    const auto combine = [&] {
      run.combine(options);
      run.receive_combine();
      run.check_combine();
    };
    if (death.moment == Moment::kBeforeDispatch) {
      demand_loss("low_latency_dispatch", "announce", dispatch);
      return demand_broken(buffer, world);
    }
    dispatch();
    if (death.moment != Moment::kInCombine) {
      demand_loss("low_latency_combine", "announce", combine);
    } else if (death.source == LowLatencySource::kArena && !world.dispatched[0].count.empty()) {
      demand_loss("low_latency_combine", "done", combine);
    } else {
      combine();
      demand_loss("low_latency_dispatch", "announce", dispatch);
    }
    demand_broken(buffer, world);
  };
  for (std::uint64_t seed = 1; seed <= 2; ++seed) run_with_victim(roomy_options(), death, seed, survive);
}

TEST_P(LowLatencyDeath, MasksTheRankWhenAsked) {
  const Death& death = GetParam();
  BufferOptions lossy = roomy_options();
  lossy.mask_lost_ranks = true;
  const auto survive = [&](Buffer& buffer, const LowLatencyWorld& world) {
    const auto sent_with = [&](Moment sent) { return death.moment < sent ? kThatRank : kNobody; };
    const LowLatencyWorld expected = with_masked(world, sent_with(Moment::kInDispatch), sent_with(Moment::kInCombine));
    const LowLatencyWorld without = with_masked(world, kThatRank, kThatRank);
    const auto begin = Clock::now();
    LowLatencyRun(buffer, world, expected).run(options_of(buffer.rank()));
    for (int i = 0; i < 20; ++i) LowLatencyRun(buffer, world, without).run(options_of(buffer.rank() + i));
    demand(Clock::now() - begin < kSoon, "took too long");
    demand(buffer.masked_ranks() == kThatRank, "masks other ranks");
    buffer.clear_masks();  // a dead rank is lost again
    for (int i = 0; i < 5; ++i) LowLatencyRun(buffer, world, without).run(options_of(buffer.rank() + i));
  };
  for (std::uint64_t seed = 1; seed <= 2; ++seed) run_with_victim(lossy, death, seed, survive);
}

constexpr Death kDeaths[] = {
    {Moment::kBeforeDispatch, LowLatencySource::kElsewhere}, {Moment::kInDispatch, LowLatencySource::kZeroCopy},
    {Moment::kBeforeCombine, LowLatencySource::kElsewhere},  {Moment::kBeforeCombine, LowLatencySource::kArena},
    {Moment::kInCombine, LowLatencySource::kZeroCopy},       {Moment::kInCombine, LowLatencySource::kElsewhere},
    {Moment::kInCombine, LowLatencySource::kArena},
};

std::string name_of_test(const ::testing::TestParamInfo<Death>& test) {
  constexpr const char* kSources[] = {"ZeroCopy", "Arena", "Elsewhere"};
  return name_of(test.param.moment) + "With" + kSources[static_cast<std::size_t>(test.param.source)];
}

INSTANTIATE_TEST_SUITE_P(EveryPhase, LowLatencyDeath, ::testing::ValuesIn(kDeaths), name_of_test);

/// Is it as the run expects? Errors of the buffer go through.
bool holds(const std::function<void()>& check) {
  try {
    check();
  } catch (const Error&) {
    throw;
  } catch (const std::runtime_error&) {
    return false;
  }
  return true;
}

/// One pair, in which the victim takes part wholly, until the combine, or not at all; then it returns false, on all
/// ranks alike.
bool run_with_or_without(Buffer& buffer, const LowLatencyWorld& world, const LowLatencyWorld& until_combine,
                         const LowLatencyWorld& without) {
  LowLatencyRun run(buffer, world);
  run.dispatch(options_of(buffer.rank()));
  run.receive_dispatch();
  const bool was_there = buffer.masked_ranks().empty();
  if (!was_there) run.expect(without);
  run.check_dispatch();
  run.combine(options_of(buffer.rank()));
  run.receive_combine();
  if (was_there && !holds([&] { run.check_combine(); })) run.expect(until_combine);
  run.check_combine();
  return was_there;
}

/// The victim dies in whatever it does at that moment: staging, waiting, fetching, summing.
TEST(LowLatencyDeathAtAnyTime, IsSurvived) {
  BufferOptions lossy = roomy_options();
  lossy.mask_lost_ranks = true;
  for (std::uint64_t seed = 1; seed <= 12; ++seed) {
    const Death death{Moment::kBeforeDispatch, static_cast<LowLatencySource>(seed % 3)};
    const LowLatencyWorld world = world_of(death, seed);
    const LowLatencyWorld until_combine = with_masked(world, kNobody, kThatRank);
    const LowLatencyWorld without = with_masked(world, kThatRank, kThatRank);
    const auto statuses = run_as_processes(kRanks, [&](const std::shared_ptr<Bootstrap>& bootstrap) {
      Buffer buffer(bootstrap, lossy);
      run_low_latency_round_trip(buffer);
      std::jthread killer;
      if (buffer.rank() == kVictim) {
        killer = std::jthread([seed] {
          std::this_thread::sleep_for(std::chrono::microseconds(2000 + 137 * seed));
          std::raise(SIGKILL);
        });
        for (;;) LowLatencyRun(buffer, world).run(options_of(kVictim));
      }
      while (run_with_or_without(buffer, world, until_combine, without)) {
      }
      for (int i = 0; i < 20; ++i) LowLatencyRun(buffer, world, without).run(options_of(buffer.rank() + i));
    });
    for (std::size_t rank = 0; rank < statuses.size(); ++rank) {
      SCOPED_TRACE(fmt::format("{}, rank {}", world.description(), rank));
      EXPECT_EQ(statuses[rank].signal, rank == kVictim ? SIGKILL : 0);
      EXPECT_EQ(statuses[rank].code, 0);
    }
  }
}

}  // namespace
}  // namespace crossdock::testing
