// BufferOptions::mask_lost_ranks, ranks as threads: a rank stops in each phase until the others have gone on without
// it, and then comes back.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <barrier>
#include <chrono>
#include <functional>
#include <string>
#include <vector>

#include "core/refusal.hpp"
#include "core/round_trip.hpp"
#include "core/victim.hpp"
#include "support/ranks.hpp"

namespace crossdock::testing {
namespace {

constexpr int kRanks = 4;
constexpr int kVictim = 1;
constexpr int kSurvivors = kRanks - 1;
constexpr Milliseconds kTimeout{400};

using Clock = std::chrono::steady_clock;

BufferOptions lossy_options(int rank) {
  BufferOptions options = roomy_options();
  options.mask_lost_ranks = true;
  options.timeout = rank == 0 ? kTimeout : Milliseconds(100'000);  // one rank's patience decides for all
  return options;
}

RoundTripShape masked_shape(std::vector<int> masked = {kVictim}) {
  RoundTripShape shape;
  shape.masked = std::move(masked);
  return shape;
}

/// The victim stops after `live`. The others run `survive` and meet it, in this order; then it does `come_back`.
void run_with_victim(
    const std::function<void(Victim&)>& live, const std::function<void(Buffer&)>& survive,
    const std::function<void(Victim&)>& come_back, const std::function<void(Buffer&)>& afterwards = [](Buffer&) {}) {
  std::barrier<> barrier(kRanks);
  run_as_threads(kRanks, [&](const std::shared_ptr<Bootstrap>& bootstrap) {
    const BufferOptions options = lossy_options(bootstrap->rank());
    if (bootstrap->rank() == kVictim) {
      Victim victim(*bootstrap, options);
      live(victim);
      barrier.arrive_and_wait();
      come_back(victim);
      barrier.arrive_and_wait();
      barrier.arrive_and_wait();
      return;
    }
    Buffer buffer(bootstrap, options);
    try {
      survive(buffer);
      EXPECT_EQ(buffer.masked_ranks(), std::vector<int>{kVictim});
      barrier.arrive_and_wait();
      barrier.arrive_and_wait();
      afterwards(buffer);
      EXPECT_TRUE(buffer.is_available());
      EXPECT_EQ(buffer.arena_bytes_free(), buffer.arena_bytes_total());
      barrier.arrive_and_wait();
    } catch (...) {
      barrier.arrive_and_drop();
      throw;
    }
  });
}

Error error_of(const std::function<void()>& call) {
  try {
    call();
  } catch (const Error& error) {
    return error;
  }
  throw std::runtime_error("nothing was thrown");
}

void expect_loss(const std::function<void()>& call, const std::string& phase, std::uint64_t epoch) {
  const Error error = error_of(call);
  EXPECT_EQ(name_of(error.code()), name_of(ErrorCode::kPeerLost)) << error.what();
  EXPECT_EQ(error.rank(), kVictim) << error.what();
  EXPECT_THAT(error.what(), ::testing::HasSubstr("lost rank(s) 1: it did not come in time"));
  ASSERT_TRUE(error.wait().has_value());
  EXPECT_EQ(error.wait()->phase, phase);
  EXPECT_EQ(error.wait()->epoch, epoch);
}

void expect_masked(const std::function<void()>& call) {
  const Error error = error_of(call);
  EXPECT_EQ(name_of(error.code()), name_of(ErrorCode::kState)) << error.what();
  EXPECT_THAT(error.what(), ::testing::HasSubstr("masked"));
}

void dispatch(Buffer& buffer) { static_cast<void>(buffer.dispatch(RoundTrip(buffer.rank(), kRanks).input())); }

void go_on(Buffer& buffer) {
  const auto begin = Clock::now();
  for (int i = 0; i < 20; ++i) run_round_trip(buffer, masked_shape());
  EXPECT_LT(Clock::now() - begin, Milliseconds(3000));  // no one waits for the lost rank
}

TEST(LostRank, BeforeItAnnouncesADispatchHasNoTokens) {
  run_with_victim([](Victim&) {}, go_on, [](Victim& victim) { expect_masked([&] { victim.announce_dispatch(1); }); });
}

TEST(LostRank, BeforeItPlacesEndsTheDispatchForAll) {
  run_with_victim([](Victim& victim) { victim.announce_dispatch(1); },
                  [](Buffer& buffer) {
                    expect_loss([&] { dispatch(buffer); }, "place", 1);
                    go_on(buffer);
                  },
                  [](Victim& victim) { expect_masked([&] { victim.place(1); }); });
}

/// Its rows go to slabs that are not given out again until it is known to have stopped.
TEST(LostRank, WhileItSendsMayStillStoreRows) {
  const auto live = [](Victim& victim) {
    victim.announce_dispatch(1);
    victim.place(1);
  };
  std::vector<DispatchOutput> received(kRanks);
  const auto survive = [&](Buffer& buffer) {
    expect_loss([&] { dispatch(buffer); }, "send", 1);
    EXPECT_LT(buffer.arena_bytes_free(), buffer.arena_bytes_total());
    go_on(buffer);
    const DispatchInput input = RoundTrip(buffer.rank(), kRanks).input();
    received[static_cast<std::size_t>(buffer.rank())] = buffer.dispatch(input);
  };
  const auto come_back = [](Victim& victim) {
    victim.store_rows(1);
    expect_masked([&] { victim.send(1); });
  };
  run_with_victim(live, survive, come_back, [&](Buffer& buffer) {
    DispatchOutput& output = received[static_cast<std::size_t>(buffer.rank())];
    RoundTrip(buffer.rank(), kRanks, masked_shape()).check(output);
    output = {};
  });
}

TEST(LostRank, WhileItSendsAWorstCaseDispatch) {
  const auto survive = [](Buffer& buffer) {
    DispatchInput input = RoundTrip(buffer.rank(), kRanks).input();
    input.num_worst_tokens = 40;
    OperationOptions options;
    options.completion = Completion::kAsynchronous;
    const DispatchOutput output = buffer.dispatch(input, options);
    expect_loss([&] { output.event.wait(); }, "send", 1);
    go_on(buffer);
  };
  run_with_victim([](Victim& victim) { victim.announce_worst_case_dispatch(1, 40); }, survive,
                  [](Victim& victim) { expect_masked([&] { victim.send(1); }); });
}

TEST(LostRank, BeforeItAnnouncesACombineContributesNothing) {
  const auto survive = [](Buffer& buffer) {
    const DispatchOutput dispatched = buffer.dispatch(RoundTrip(buffer.rank(), kRanks).input());
    RoundTrip(buffer.rank(), kRanks, masked_shape()).check(buffer.combine(combine_of(dispatched)));
    go_on(buffer);
  };
  run_with_victim([](Victim& victim) { victim.dispatch(1); }, survive,
                  [](Victim& victim) { expect_masked([&] { victim.announce_combine(2, 1); }); });
}

TEST(LostRank, BeforeItIsDoneWithACombineHasContributed) {
  const auto live = [](Victim& victim) {
    victim.dispatch(1);
    victim.announce_combine(2, 1);
  };
  const auto survive = [](Buffer& buffer) {
    const DispatchOutput dispatched = buffer.dispatch(RoundTrip(buffer.rank(), kRanks).input());
    static_cast<void>(buffer.combine(combine_of(dispatched)));
    go_on(buffer);
  };
  run_with_victim(live, survive, [](Victim& victim) { expect_masked([&] { victim.done(2); }); });
}

/// It does all that the others wait for, but for saying that it is through: then its slots must not be used again.
TEST(LostRank, ThatRetiresNothingIsNoticedWhenSlotsAreUsedAgain) {
  constexpr int kSlots = static_cast<int>(host::kNumSlots);
  const auto live = [](Victim& victim) {
    for (int epoch = 1; epoch <= kSlots; ++epoch) victim.dispatch_without_retiring(static_cast<std::uint64_t>(epoch));
  };
  const auto survive = [](Buffer& buffer) {
    for (int i = 0; i < kSlots; ++i) dispatch(buffer);
    go_on(buffer);
  };
  run_with_victim(live, survive, [](Victim& victim) { expect_masked([&] { victim.announce_dispatch(kSlots + 1); }); });
}

/// It was lost while it sent, far from where the group is when it comes back.
TEST(LostRank, ComesBackWhenAllLetItIn) {
  constexpr std::uint64_t kNext = 2 + 2 * 20;
  std::barrier<> barrier(kRanks);
  run_as_threads(kRanks, [&](const std::shared_ptr<Bootstrap>& bootstrap) {
    const BufferOptions options = lossy_options(bootstrap->rank());
    if (bootstrap->rank() == kVictim) {
      Victim victim(*bootstrap, options);
      victim.announce_dispatch(1);
      victim.place(1);
      barrier.arrive_and_wait();
      expect_masked([&] { static_cast<void>(victim.readmit(2)); });
      expect_masked([&] { victim.send(1); });
      barrier.arrive_and_wait();
      barrier.arrive_and_wait();
      ASSERT_EQ(victim.readmit(2), kNext);
      expect_masked([&] { victim.send(1); });  // it is too late for that for ever
      for (std::uint64_t epoch = kNext; epoch < kNext + 40; ++epoch) victim.dispatch(epoch);
      return barrier.arrive_and_wait();
    }
    Buffer buffer(bootstrap, options);
    expect_loss([&] { dispatch(buffer); }, "send", 1);
    go_on(buffer);
    barrier.arrive_and_wait();
    barrier.arrive_and_wait();
    buffer.clear_masks();
    barrier.arrive_and_wait();
    for (int i = 0; i < 40; ++i) dispatch(buffer);
    EXPECT_TRUE(buffer.masked_ranks().empty());
    barrier.arrive_and_wait();
  });
}

/// Whole ranks: one sleeps between operations, learns what it missed, and comes back. Again and again.
TEST(LostRank, ThatSleptTakesPartAgain) {
  std::barrier<> barrier(kRanks);
  run_as_threads(kRanks, [&](const std::shared_ptr<Bootstrap>& bootstrap) {
    Buffer buffer(bootstrap, lossy_options(bootstrap->rank() == kVictim ? 3 : bootstrap->rank()));
    for (int round = 0; round < 3; ++round) {
      for (int i = 0; i < 20 + round; ++i) run_round_trip(buffer);
      if (buffer.rank() != kVictim) go_on(buffer);
      barrier.arrive_and_wait();
      if (buffer.rank() == kVictim) expect_masked([&] { dispatch(buffer); });
      barrier.arrive_and_wait();
      buffer.clear_masks();
      barrier.arrive_and_wait();
    }
    for (int i = 0; i < 100; ++i) run_round_trip(buffer);
    EXPECT_TRUE(buffer.masked_ranks().empty());
    barrier.arrive_and_wait();
  });
}

TEST(LostRank, ThatLeavesIsMaskedAtOnce) {
  std::barrier<> barrier(kSurvivors);
  run_as_threads(kRanks, [&](const std::shared_ptr<Bootstrap>& bootstrap) {
    Buffer buffer(bootstrap, lossy_options(3));
    run_round_trip(buffer);
    if (buffer.rank() == kVictim) return buffer.destroy();
    go_on(buffer);
    barrier.arrive_and_wait();
  });
}

/// One is lost before it announces, another before it places; then a third.
TEST(LostRank, MayBeOneOfSeveral) {
  std::barrier<> barrier(kRanks);
  run_as_threads(kRanks, [&](const std::shared_ptr<Bootstrap>& bootstrap) {
    const int rank = bootstrap->rank();
    if (rank == 1 || rank == 2) {
      Victim victim(*bootstrap, lossy_options(rank));
      if (rank == 2) victim.announce_dispatch_alone(1);
      barrier.arrive_and_wait();
      expect_masked([&] { rank == 2 ? victim.place(1) : victim.announce_dispatch(1); });
      barrier.arrive_and_wait();
      return;
    }
    Buffer buffer(bootstrap, lossy_options(rank));
    const Error error = error_of([&] { dispatch(buffer); });
    EXPECT_EQ(name_of(error.code()), name_of(ErrorCode::kPeerLost)) << error.what();
    EXPECT_EQ(error.rank(), 2) << error.what();
    for (int i = 0; i < 20; ++i) run_round_trip(buffer, masked_shape({1, 2}));
    EXPECT_EQ(buffer.masked_ranks(), (std::vector<int>{1, 2}));
    barrier.arrive_and_wait();
    if (rank == 0) {
      for (int i = 0; i < 20; ++i) run_round_trip(buffer, masked_shape({1, 2, 3}));
    }
    barrier.arrive_and_wait();
  });
}

TEST(LostRank, IsAnOptionThatAllRanksMustShare) {
  run_as_threads(2, [&](const std::shared_ptr<Bootstrap>& bootstrap) {
    BufferOptions options = roomy_options();
    options.mask_lost_ranks = bootstrap->rank() == 0;
    const Error error = error_of([&] { const Buffer buffer(bootstrap, options); });
    EXPECT_EQ(name_of(error.code()), name_of(ErrorCode::kMismatch));
    EXPECT_THAT(error.what(), ::testing::HasSubstr("mask_lost_ranks: rank 0 has 1, rank 1 has 0"));
  });
}

}  // namespace
}  // namespace crossdock::testing
