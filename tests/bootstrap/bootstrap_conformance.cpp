#include "bootstrap/bootstrap_conformance.hpp"

#include <atomic>
#include <random>
#include <thread>

#include <gmock/gmock.h>

#include <crossdock/error.hpp>

namespace crossdock::bootstrap_test {

namespace {

using std::chrono::milliseconds;

constexpr milliseconds kPatience{20'000};

/// What `rank` contributes to `round`: recognisable bytes of a length that differs between ranks and rounds.
Bytes contribution(int rank, int round) {
  std::mt19937 random(static_cast<unsigned>(rank * 1000 + round));
  Bytes result(random() % 3 == 0 ? 0 : random() % 5000);
  for (std::byte& byte : result) byte = static_cast<std::byte>(random() & 0xFFU);
  return result;
}

TEST_P(BootstrapConformance, NumbersItsRanks) {
  const Group group = GetParam().make_group(3);
  ASSERT_EQ(group.size(), 3U);
  for (int rank = 0; rank < 3; ++rank) {
    EXPECT_EQ(group[static_cast<std::size_t>(rank)]->rank(), rank);
    EXPECT_EQ(group[static_cast<std::size_t>(rank)]->size(), 3);
  }
}

TEST_P(BootstrapConformance, GathersDifferentLengthsInRankOrder) {
  for (const int size : {1, 2, 5, 16}) {
    const Group group = GetParam().make_group(size);
    run_ranks(size, [&](int rank) {
      for (int round = 0; round < 10; ++round) {
        const auto result = group[static_cast<std::size_t>(rank)]->all_gather(contribution(rank, round), kPatience);
        ASSERT_EQ(result.size(), static_cast<std::size_t>(size));
        for (int from = 0; from < size; ++from) {
          ASSERT_EQ(result[static_cast<std::size_t>(from)], contribution(from, round))
              << "rank " << rank << " of " << size << ", round " << round << ", from " << from;
        }
      }
    });
  }
}

TEST_P(BootstrapConformance, GathersNothingFromEverybody) {
  const Group group = GetParam().make_group(5);
  run_ranks(5, [&](int rank) {
    EXPECT_THAT(group[static_cast<std::size_t>(rank)]->all_gather({}, kPatience),
                testing::AllOf(testing::SizeIs(5), testing::Each(testing::IsEmpty())));
  });
}

TEST_P(BootstrapConformance, GathersTheLargestContribution) {
  const Group group = GetParam().make_group(2);
  const std::size_t largest = std::size_t{16} << 20U;
  run_ranks(2, [&](int rank) {
    const Bytes mine(largest, static_cast<std::byte>(rank + 1));
    const auto result = group[static_cast<std::size_t>(rank)]->all_gather(mine, kPatience);
    ASSERT_EQ(result.size(), 2U);
    EXPECT_TRUE(result[0] == Bytes(largest, std::byte{1}));
    EXPECT_TRUE(result[1] == Bytes(largest, std::byte{2}));
  });
}

TEST_P(BootstrapConformance, RefusesATooLargeContributionAndGoesOn) {
  const Group group = GetParam().make_group(2);
  const Bytes too_large((std::size_t{16} << 20U) + 1);
  try {
    static_cast<void>(group[1]->all_gather(too_large, kPatience));
    FAIL() << "no error";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kInvalidArgument);
    EXPECT_THAT(error.what(), testing::HasSubstr("rank 1 contributes 16777217 bytes"));
  }
  run_ranks(2, [&](int rank) { group[static_cast<std::size_t>(rank)]->barrier(kPatience); });
}

TEST_P(BootstrapConformance, BarrierHoldsUntilTheLastRankHasCome) {
  for (const int size : {1, 2, 5, 16}) {
    const Group group = GetParam().make_group(size);
    std::atomic<int> entered{0};
    run_ranks(size, [&](int rank) {
      for (int round = 1; round <= 20; ++round) {
        if (rank == round % size) std::this_thread::sleep_for(milliseconds(1));
        entered.fetch_add(1, std::memory_order_relaxed);
        group[static_cast<std::size_t>(rank)]->barrier(kPatience);
        ASSERT_GE(entered.load(std::memory_order_relaxed), round * size);
        group[static_cast<std::size_t>(rank)]->barrier(kPatience);
        ASSERT_LE(entered.load(std::memory_order_relaxed), round * size + size);
      }
    });
  }
}

TEST_P(BootstrapConformance, LeavingAfterTheLastRoundHarmsNobody) {
  for (int repetition = 0; repetition < 20; ++repetition) {
    Group group = GetParam().make_group(5);
    run_ranks(5, [&](int rank) {
      auto& mine = group[static_cast<std::size_t>(rank)];
      const auto result = mine->all_gather(to_bytes(std::to_string(rank)), kPatience);
      mine.reset();
      EXPECT_EQ(result[4], to_bytes("4"));
    });
  }
}

}  // namespace

}  // namespace crossdock::bootstrap_test
