// BufferOptions::mask_lost_ranks, ranks as processes: one or two are killed in each phase, and the others go on with
// the same buffer.
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <functional>
#include <stdexcept>
#include <string>
#include <vector>

#include <fmt/format.h>

#include "core/refusal.hpp"
#include "core/round_trip.hpp"
#include "core/victim.hpp"
#include "support/ranks.hpp"

namespace crossdock::testing {
namespace {

constexpr int kRanks = 4;
constexpr int kVictim = 1;

using Clock = std::chrono::steady_clock;

/// Expectations of GoogleTest are lost in forked ranks.
template <typename... Args>
void demand(bool condition, fmt::format_string<Args...> text, Args&&... args) {
  if (!condition) throw std::runtime_error(fmt::format(text, std::forward<Args>(args)...));
}

/// The deadline is 100 s: only the death itself can end a wait in time.
BufferOptions lossy_options() {
  BufferOptions options = roomy_options();
  options.mask_lost_ranks = true;
  return options;
}

RoundTripShape masked_shape(std::vector<int> masked) {
  RoundTripShape shape;
  shape.masked = std::move(masked);
  return shape;
}

void dispatch(Buffer& buffer) { static_cast<void>(buffer.dispatch(RoundTrip(buffer.rank(), kRanks).input())); }

void demand_loss(const std::function<void()>& call, const std::string& phase) {
  try {
    call();
  } catch (const Error& error) {
    demand(error.code() == ErrorCode::kPeerLost && error.rank() == kVictim, "says: {}", error.what());
    demand(error.wait() && error.wait()->phase == phase, "another phase: {}", error.what());
    demand(std::string(error.what()).find("its process died") != std::string::npos, "says: {}", error.what());
    return;
  }
  throw std::runtime_error("nothing was thrown");
}

using Deaths = std::vector<std::pair<int, std::function<void(Victim&)>>>;

void run_with_deaths(const Deaths& deaths, const std::function<void(Buffer&)>& survive) {
  std::vector<int> victims;
  for (const auto& [rank, live] : deaths) victims.push_back(rank);
  const auto statuses = run_as_processes(kRanks, [&](const std::shared_ptr<Bootstrap>& bootstrap) {
    for (const auto& [rank, live] : deaths) {
      if (rank != bootstrap->rank()) continue;
      Victim victim(*bootstrap, lossy_options());
      live(victim);
      std::raise(SIGKILL);
    }
    Buffer buffer(bootstrap, lossy_options());
    const auto begin = Clock::now();
    survive(buffer);
    for (int i = 0; i < 50; ++i) run_round_trip(buffer, masked_shape(victims));
    demand(buffer.masked_ranks() == victims, "masks other ranks");
    demand(buffer.arena_bytes_free() == buffer.arena_bytes_total(), "a slab is lost");
    demand(Clock::now() - begin < Milliseconds(5000), "took too long");
    buffer.clear_masks();  // a dead rank is lost again
    run_round_trip(buffer, masked_shape(victims));
  });
  for (std::size_t rank = 0; rank < statuses.size(); ++rank) {
    SCOPED_TRACE("rank " + std::to_string(rank));
    EXPECT_EQ(statuses[rank].signal, std::ranges::count(victims, static_cast<int>(rank)) > 0 ? SIGKILL : 0);
    EXPECT_EQ(statuses[rank].code, 0);
  }
}

void announce(Victim& victim) { victim.announce_dispatch(1); }

void place(Victim& victim) {
  victim.announce_dispatch(1);
  victim.place(1);
}

TEST(Death, BeforeADispatchIsAnnounced) {
  run_with_deaths({{kVictim, [](Victim&) {}}}, [](Buffer& buffer) { run_round_trip(buffer, masked_shape({kVictim})); });
}

TEST(Death, BeforeItPlaces) {
  run_with_deaths({{kVictim, announce}}, [](Buffer& buffer) { demand_loss([&] { dispatch(buffer); }, "place"); });
}

TEST(Death, WhileItSends) {
  run_with_deaths({{kVictim, place}}, [](Buffer& buffer) { demand_loss([&] { dispatch(buffer); }, "send"); });
}

TEST(Death, BeforeACombineIsAnnounced) {
  run_with_deaths({{kVictim, [](Victim& victim) { victim.dispatch(1); }}}, [](Buffer& buffer) {
    const DispatchOutput dispatched = buffer.dispatch(RoundTrip(buffer.rank(), kRanks).input());
    RoundTrip(buffer.rank(), kRanks, masked_shape({kVictim})).check(buffer.combine(combine_of(dispatched)));
  });
}

TEST(Death, BeforeItIsDoneWithACombine) {
  const auto die = [](Victim& victim) {
    victim.dispatch(1);
    victim.announce_combine(2, 1);
  };
  run_with_deaths({{kVictim, die}}, [](Buffer& buffer) {
    const DispatchOutput dispatched = buffer.dispatch(RoundTrip(buffer.rank(), kRanks).input());
    static_cast<void>(buffer.combine(combine_of(dispatched)));
  });
}

TEST(Death, OfTwoInOneOperation) {
  const auto announce_alone = [](Victim& victim) { victim.announce_dispatch_alone(1); };
  run_with_deaths({{kVictim, announce_alone}, {3, [](Victim&) {}}},
                  [](Buffer& buffer) { demand_loss([&] { dispatch(buffer); }, "place"); });
}

TEST(Death, IsTheErrorOfAnAsynchronousOperation) {
  run_with_deaths({{kVictim, [](Victim& victim) { victim.announce_worst_case_dispatch(1, 40); }}}, [](Buffer& buffer) {
    OperationOptions options;
    options.completion = Completion::kAsynchronous;
    DispatchInput input = RoundTrip(buffer.rank(), kRanks).input();
    input.num_worst_tokens = 40;
    const DispatchOutput first = buffer.dispatch(input, options);
    const DispatchOutput second = buffer.dispatch(input, options);
    demand_loss([&] { first.event.wait(); }, "send");
    second.event.wait();
    RoundTrip(buffer.rank(), kRanks, masked_shape({kVictim})).check(second);
  });
}

}  // namespace
}  // namespace crossdock::testing
