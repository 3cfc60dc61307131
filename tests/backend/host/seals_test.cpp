// Words that a rank and those who wait for it want to settle.
#include "backend/host/seals.hpp"

#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <barrier>
#include <thread>

#include "backend/host/window.hpp"

namespace crossdock::host {
namespace {

using Word = std::atomic<std::uint64_t>;

TEST(Seals, ASignalThatCameFirstStands) {
  Word word = 3;
  EXPECT_TRUE(try_signal(word, 19));
  EXPECT_EQ(seal(word, 19, kSealed | 19), 19U);
  EXPECT_TRUE(has_reached(word, 19));
  stop(word, 19);
  EXPECT_EQ(word.load(), 19U);
}

TEST(Seals, ASealThatCameFirstStands) {
  Word word = 3;
  EXPECT_EQ(seal(word, 19, kSealed | 19), kSealed | 19);
  EXPECT_FALSE(try_signal(word, 19));
  EXPECT_FALSE(has_reached(word, 19));
  EXPECT_TRUE(is_sealed_for(word, 19));
  EXPECT_FALSE(is_sealed_for(word, 35));
  stop(word, 19);
  EXPECT_EQ(word.load(), kSealed | kStopped | 19);
}

TEST(Seals, CountForTheirEpochAndEarlierOnes) {
  Word word = 3;
  static_cast<void>(seal(word, 19, kSealed | 19));
  static_cast<void>(seal(word, 35, kSealed | 35));
  EXPECT_FALSE(try_signal(word, 19));  // it is late by two
  stop(word, 19);
  EXPECT_EQ(word.load(), kSealed | 35);
  EXPECT_TRUE(try_signal(word, 51));
  EXPECT_EQ(word.load(), 51U);
}

TEST(Seals, ARankThatStopsSealsItsOwnWord) {
  Word word = 3;
  stop(word, 19);
  EXPECT_TRUE(is_sealed_for(word, 19));
  EXPECT_EQ(seal(word, 19, kSealed | 19), kSealed | kStopped | 19);
}

TEST(Seals, OfRetiredKeepWhatWasReached) {
  Word word = 7;
  EXPECT_EQ(seal_retired(word, 7), 7U);
  EXPECT_EQ(seal_retired(word, 8), kSealed | 7);
  EXPECT_EQ(seal_retired(word, 9), kSealed | 7);
}

TEST(Seals, SignalsOfALaterAdmissionAreLarger) {
  const std::uint64_t admitted = std::uint64_t{1} << kEpochBits;
  EXPECT_FALSE(has_reached(1000, admitted | 20));
  EXPECT_TRUE(has_reached(admitted | 20, admitted | 20));
  EXPECT_FALSE(has_reached(kSealed | admitted | 20, admitted | 20));
}

/// All three see the same winner, whoever it is.
TEST(Seals, AndSignalsNeverBothWin) {
  constexpr std::uint64_t kEpochs = 200;
  Word word = 0;
  std::barrier<> barrier(3);
  std::array<std::uint64_t, 2> seen{};
  bool has_signalled = false;
  const auto give_up = [&](std::size_t who) {
    for (std::uint64_t epoch = 1; epoch <= kEpochs; ++epoch) {
      barrier.arrive_and_wait();
      seen[who] = seal(word, epoch, kSealed | epoch);
      barrier.arrive_and_wait();
    }
  };
  std::thread first(give_up, 0);
  std::thread second(give_up, 1);
  for (std::uint64_t epoch = 1; epoch <= kEpochs; ++epoch) {
    barrier.arrive_and_wait();
    has_signalled = try_signal(word, epoch);
    barrier.arrive_and_wait();
    ASSERT_EQ(seen[0], seen[1]);
    ASSERT_EQ(has_reached(seen[0], epoch), has_signalled);
    ASSERT_EQ(is_sealed_for(seen[0], epoch), !has_signalled);
  }
  first.join();
  second.join();
}

}  // namespace
}  // namespace crossdock::host
