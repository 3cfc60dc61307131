// Regular stores while they are quick, streaming ones for a long while when they are not.
#include "backend/host/store_choice.hpp"

#include <gtest/gtest.h>

namespace crossdock::host {
namespace {

constexpr std::size_t kBytes = 64 * 1000;
constexpr StoreChoice::Duration kSlowLine{7};
constexpr StoreChoice::Duration kQuick = kSlowLine * 1000;
constexpr StoreChoice::Duration kSlow = kQuick + StoreChoice::Duration{1};

class StoreChoiceTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (stores_for(kBytes) == Stores::kCached) GTEST_SKIP() << "small batches never stream on this processor";
  }

  /// A batch of which `stored` bytes are stored, which takes `took` with regular stores. Were they?
  bool is_stored_regularly(StoreChoice::Duration took, std::size_t stored = kBytes, std::size_t bytes = kBytes) {
    if (choice_.choose(bytes) == Stores::kStreaming) return false;
    choice_.note(bytes, stored, took);
    return true;
  }
  /// Regular stores are found to be slow.
  void make_slow() {
    for (int i = 0; i < StoreChoice::kTrials; ++i) EXPECT_TRUE(is_stored_regularly(kSlow)) << i;
  }

  StoreChoice choice_{8 * kBytes, kSlowLine};
};

TEST_F(StoreChoiceTest, StoresRegularlyWhileThatIsQuick) {
  for (int i = 0; i < 2 * StoreChoice::kStreamingRun; ++i) ASSERT_TRUE(is_stored_regularly(kQuick)) << i;
}

TEST_F(StoreChoiceTest, OvercomesABatchThatWasSlowByChance) {
  for (int i = 0; i < 10 * StoreChoice::kTrials; ++i) {
    ASSERT_TRUE(is_stored_regularly(i % StoreChoice::kTrials == 0 ? kQuick : kSlow)) << i;
  }
}

TEST_F(StoreChoiceTest, StreamsAfterSlowTrialsAndThenTriesAgain) {
  for (int round = 0; round < 3; ++round) {
    make_slow();
    for (int i = 0; i < StoreChoice::kStreamingRun; ++i) ASSERT_FALSE(is_stored_regularly(kQuick)) << round << " " << i;
  }
  EXPECT_TRUE(is_stored_regularly(kQuick));
}

TEST_F(StoreChoiceTest, SaysWhatWasFoundLast) {
  EXPECT_FALSE(choice_.are_slow());
  make_slow();
  EXPECT_TRUE(choice_.are_slow());
  for (int i = 0; i < StoreChoice::kStreamingRun; ++i) ASSERT_FALSE(is_stored_regularly(kQuick));
  EXPECT_TRUE(choice_.are_slow());
  EXPECT_TRUE(is_stored_regularly(kQuick));
  EXPECT_FALSE(choice_.are_slow());
}

TEST_F(StoreChoiceTest, CountsOnlyWhatWasStored) {
  for (int i = 0; i < StoreChoice::kTrials; ++i) EXPECT_TRUE(is_stored_regularly(kQuick, kBytes / 2)) << i;
  EXPECT_FALSE(is_stored_regularly(kQuick));
}

TEST_F(StoreChoiceTest, KeepsSizesApart) {
  make_slow();
  EXPECT_FALSE(is_stored_regularly(kQuick));
  EXPECT_TRUE(is_stored_regularly(kQuick, kBytes, 4 * kBytes));
}

TEST(StoreChoice, StreamsLargeBatchesAlways) {
  StoreChoice choice(kBytes, kSlowLine);
  EXPECT_EQ(choice.choose(kBytes + 1), Stores::kStreaming);
}

}  // namespace
}  // namespace crossdock::host
