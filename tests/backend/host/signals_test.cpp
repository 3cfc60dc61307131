// Signals between ranks that are threads over windows made by hand.
#include "backend/host/signals.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <memory>
#include <new>
#include <thread>
#include <vector>

#include "base/error.hpp"

namespace crossdock::host {
namespace {

using std::chrono::milliseconds;

/// Windows of `num_ranks` ranks without arenas, and each rank's view of them.
class Ranks {
 public:
  explicit Ranks(int num_ranks) {
    const WindowLayout layout(num_ranks, 1);
    std::vector<std::shared_ptr<SharedMemory>> memory;
    for (int rank = 0; rank < num_ranks; ++rank) {
      memory.push_back(std::make_shared<SharedMemory>(SharedMemory::create(layout.arena_offset(), false)));
      new (memory.back()->data()) WindowHeader;
      for (std::uint64_t i = 0; i < kNumSlots; ++i) new (memory.back()->data() + layout.slot_offset(i)) Slot;
    }
    for (int rank = 0; rank < num_ranks; ++rank) {
      windows_.push_back(std::make_unique<Windows>(Windows{rank, layout, memory, PeerWatch(num_ranks)}));
      signals_.push_back(std::make_unique<Signals>(*windows_.back()));
    }
  }

  [[nodiscard]] Signals& signals(int rank) { return *signals_[static_cast<std::size_t>(rank)]; }
  [[nodiscard]] Windows& windows(int rank) { return *windows_[static_cast<std::size_t>(rank)]; }

  void run(const std::function<void(int rank, Signals& signals)>& body) {
    std::vector<std::thread> threads;
    for (int rank = 0; rank < static_cast<int>(signals_.size()); ++rank) {
      threads.emplace_back([this, rank, &body] { body(rank, signals(rank)); });
    }
    for (std::thread& thread : threads) thread.join();
  }

 private:
  std::vector<std::unique_ptr<Windows>> windows_;
  std::vector<std::unique_ptr<Signals>> signals_;
};

Deadline long_deadline() { return Deadline(milliseconds(60'000)); }

Error error_of(const std::function<void()>& call) {
  try {
    call();
  } catch (const Error& error) {
    return error;
  }
  throw std::logic_error("nothing was thrown");
}

TEST(Signals, WhatWasWrittenBeforeIsSeenAfter) {
  constexpr int kRanks = 3;
  Ranks ranks(kRanks);
  ranks.run([&](int rank, Signals& signals) {
    for (std::uint64_t epoch = 1; epoch <= 1000; ++epoch) {
      signals.open_epoch(epoch, "test", long_deadline());
      ranks.windows(rank).slot(rank, epoch).announcement.hidden = static_cast<std::int64_t>(epoch) * 10 + rank;
      signals.signal(Phase::kAnnounce, epoch);
      signals.wait_all(Phase::kAnnounce, epoch, "test", long_deadline());
      for (int peer = 0; peer < kRanks; ++peer) {
        ASSERT_EQ(ranks.windows(rank).slot(peer, epoch).announcement.hidden,
                  static_cast<std::int64_t>(epoch) * 10 + peer);
      }
      signals.retire(epoch);
    }
  });
}

TEST(Signals, WakeThoseWhoSleep) {
  Ranks ranks(2);
  ranks.run([](int rank, Signals& signals) {
    for (std::uint64_t epoch = 1; epoch <= 5; ++epoch) {
      if (rank == 1) std::this_thread::sleep_for(milliseconds(15));
      signals.signal(Phase::kSend, epoch);
      signals.wait_all(Phase::kSend, epoch, "test", long_deadline());
      signals.retire(epoch);
    }
  });
}

TEST(Signals, DeadlineNamesWhoIsMissing) {
  Ranks ranks(3);
  ranks.signals(0).signal(Phase::kPlace, 1);
  ranks.signals(2).signal(Phase::kPlace, 1);
  const Error error =
      error_of([&] { ranks.signals(0).wait_all(Phase::kPlace, 1, "dispatch", Deadline(milliseconds(30))); });
  EXPECT_EQ(error.code(), ErrorCode::kTimeout);
  EXPECT_THAT(error.what(), ::testing::HasSubstr("rank(s) 1 did not come within 30 ms"));
  ASSERT_TRUE(error.wait().has_value());
  EXPECT_EQ(error.wait()->operation, "dispatch");
  EXPECT_EQ(error.wait()->phase, "place");
  EXPECT_EQ(error.wait()->epoch, 1U);
  EXPECT_EQ(error.wait()->rank, 1);
  EXPECT_EQ(error.wait()->expected, 1U);
  EXPECT_EQ(error.wait()->seen, 0U);
  EXPECT_TRUE(ranks.signals(0).is_broken());

  const Error peers = error_of([&] { ranks.signals(1).wait_all(Phase::kDone, 1, "dispatch", long_deadline()); });
  EXPECT_EQ(peers.code(), ErrorCode::kPeerLost);
  EXPECT_EQ(peers.wait()->rank, 0);
  EXPECT_THAT(peers.what(), ::testing::HasSubstr("rank 0 gave up"));
}

TEST(Signals, ASlotIsNotOpenedAgainBeforeAllRanksAreThroughWithIt) {
  Ranks ranks(2);
  const std::uint64_t next = kNumSlots + 1;
  for (std::uint64_t epoch = 1; epoch <= kNumSlots; ++epoch) {
    ranks.signals(0).open_epoch(epoch, "test", Deadline(milliseconds(0)));
    ranks.signals(0).retire(epoch);
  }
  std::thread other([&] {
    std::this_thread::sleep_for(milliseconds(30));
    ranks.signals(1).retire(1);
  });
  ranks.signals(0).open_epoch(next, "test", long_deadline());
  EXPECT_EQ(ranks.windows(0).header(1).retired.load(), 1U);
  other.join();
  EXPECT_EQ(error_of([&] { ranks.signals(0).open_epoch(next + 1, "test", Deadline(milliseconds(20))); }).code(),
            ErrorCode::kTimeout);
}

TEST(Signals, EpochsMayBeRetiredOutOfOrder) {
  Ranks ranks(1);
  const auto& retired = ranks.windows(0).header(0).retired;
  ranks.signals(0).retire(3);
  ranks.signals(0).retire(2);
  EXPECT_EQ(retired.load(), 0U);
  ranks.signals(0).retire(1);
  EXPECT_EQ(retired.load(), 3U);
  ranks.signals(0).retire(5);
  EXPECT_EQ(retired.load(), 3U);
  ranks.signals(0).retire(4);
  EXPECT_EQ(retired.load(), 5U);
}

TEST(Signals, ADepartureEndsWaitsForThatRankOnly) {
  Ranks ranks(3);
  ranks.signals(1).signal(Phase::kDone, 1);
  ranks.signals(1).depart(Departure::kLeft, "left the buffer");
  ranks.signals(1).depart(Departure::kBroken, "gave up later");  // the first stands
  ranks.signals(0).signal(Phase::kDone, 1);
  ranks.signals(2).signal(Phase::kDone, 1);
  ranks.signals(0).wait_all(Phase::kDone, 1, "test", long_deadline());  // it had given this signal before it left

  ranks.signals(0).signal(Phase::kDone, 2);
  ranks.signals(2).signal(Phase::kDone, 2);
  const Error error = error_of([&] { ranks.signals(0).wait_all(Phase::kDone, 2, "test", long_deadline()); });
  EXPECT_EQ(error.code(), ErrorCode::kPeerLost);
  EXPECT_EQ(error.wait()->rank, 1);
  EXPECT_THAT(error.what(), ::testing::HasSubstr("rank 1 left the buffer"));
  EXPECT_EQ(error_of([&] { ranks.signals(0).open_epoch(3, "test", long_deadline()); }).code(), ErrorCode::kState);
}

}  // namespace
}  // namespace crossdock::host
