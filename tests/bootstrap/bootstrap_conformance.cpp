#include "bootstrap/bootstrap_conformance.hpp"

#include <atomic>
#include <exception>
#include <random>
#include <thread>

#include <gmock/gmock.h>

#include <crossdock/error.hpp>

namespace crossdock::bootstrap_test {

void run_ranks(int size, const std::function<void(int rank)>& body) {
  std::vector<std::exception_ptr> failures(static_cast<std::size_t>(size));
  std::vector<std::thread> threads;
  for (int rank = 0; rank < size; ++rank) {
    threads.emplace_back([&, rank] {
      try {
        body(rank);
      } catch (...) {
        failures[static_cast<std::size_t>(rank)] = std::current_exception();
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (const auto& failure : failures) {
    if (failure) std::rethrow_exception(failure);
  }
}

Bytes to_bytes(const std::string& text) {
  const auto bytes = std::as_bytes(std::span(text));
  return {bytes.begin(), bytes.end()};
}

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

TEST_P(BootstrapConformance, EveryRankNamesTheMissingOnes) {
  if (!GetParam().watches) GTEST_SKIP() << "deadlines are the engine's own";
  const Group group = GetParam().make_group(5);
  const auto start = std::chrono::steady_clock::now();
  run_ranks(5, [&](int rank) {
    if (rank == 2 || rank == 4) return;
    try {
      static_cast<void>(group[static_cast<std::size_t>(rank)]->all_gather(to_bytes("here"), milliseconds(150)));
      FAIL() << "no error on rank " << rank;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kTimeout) << error.what();
      EXPECT_THAT(error.what(), testing::HasSubstr("ranks 2, 4 of 5 did not come within 150 ms"));
      ASSERT_TRUE(error.wait().has_value());
      EXPECT_EQ(error.wait()->operation, "bootstrap");
      EXPECT_EQ(error.wait()->phase, "all_gather");
      EXPECT_EQ(error.wait()->epoch, 1U);
      EXPECT_EQ(error.rank(), 2);
      EXPECT_EQ(error.wait()->expected, 5U);
      EXPECT_EQ(error.wait()->seen, 3U);
    }
  });
  EXPECT_LT(std::chrono::steady_clock::now() - start, milliseconds(2000));
}

TEST_P(BootstrapConformance, EveryRankNamesRankZeroIfItIsMissing) {
  if (!GetParam().watches) GTEST_SKIP() << "deadlines are the engine's own";
  const Group group = GetParam().make_group(3);
  run_ranks(3, [&](int rank) {
    if (rank == 0) return;
    try {
      group[static_cast<std::size_t>(rank)]->barrier(milliseconds(100));
      FAIL() << "no error on rank " << rank;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kTimeout) << error.what();
      EXPECT_EQ(error.rank(), 0) << error.what();
    }
  });
}

TEST_P(BootstrapConformance, ARankWithAShorterDeadlineEndsTheRoundForAll) {
  if (!GetParam().watches) GTEST_SKIP() << "deadlines are the engine's own";
  const Group group = GetParam().make_group(4);
  const auto start = std::chrono::steady_clock::now();
  run_ranks(4, [&](int rank) {
    if (rank == 2) return;
    try {
      group[static_cast<std::size_t>(rank)]->barrier(rank == 3 ? milliseconds(100) : kPatience);
      FAIL() << "no error on rank " << rank;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kTimeout) << error.what();
      EXPECT_EQ(error.rank(), 2) << error.what();
    }
  });
  EXPECT_LT(std::chrono::steady_clock::now() - start, kPatience / 4);
}

TEST_P(BootstrapConformance, EveryRankNamesTheOneThatLeft) {
  if (!GetParam().watches) GTEST_SKIP() << "lost peers are the engine's own business";
  for (const int leaver : {0, 1, 3}) {
    Group group = GetParam().make_group(4);
    run_ranks(4, [&](int rank) {
      auto& mine = group[static_cast<std::size_t>(rank)];
      mine->barrier(kPatience);
      if (rank == leaver) {
        std::this_thread::sleep_for(milliseconds(20));
        mine.reset();
        return;
      }
      try {
        static_cast<void>(mine->all_gather(contribution(rank, 1), kPatience));
        FAIL() << "no error on rank " << rank;
      } catch (const Error& error) {
        EXPECT_EQ(error.code(), ErrorCode::kPeerLost) << error.what();
        EXPECT_EQ(error.rank(), leaver) << error.what();
        EXPECT_THAT(error.what(), testing::HasSubstr("rank " + std::to_string(leaver)));
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

TEST_P(BootstrapConformance, AFailedGroupStaysFailed) {
  if (!GetParam().watches) GTEST_SKIP() << "deadlines are the engine's own";
  const Group group = GetParam().make_group(2);
  for (int attempt = 0; attempt < 2; ++attempt) {
    try {
      group[0]->barrier(milliseconds(30));
      FAIL() << "no error";
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kTimeout);
      EXPECT_EQ(error.rank(), 1);
    }
  }
  try {
    group[1]->barrier(kPatience);
    FAIL() << "no error";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kTimeout) << error.what();
    EXPECT_EQ(error.rank(), 1) << error.what();
  }
}

TEST_P(BootstrapConformance, DifferentCallsAreAnError) {
  if (!GetParam().watches) GTEST_SKIP() << "the engine's all-gather cannot tell calls apart";
  const Group group = GetParam().make_group(3);
  run_ranks(3, [&](int rank) {
    auto& mine = group[static_cast<std::size_t>(rank)];
    try {
      if (rank == 1) mine->barrier(kPatience);
      static_cast<void>(mine->all_gather(to_bytes("data"), kPatience));
      FAIL() << "no error on rank " << rank;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kBootstrap) << error.what();
      EXPECT_THAT(error.what(), testing::HasSubstr("same calls in the same order"));
    }
  });
}

}  // namespace

}  // namespace crossdock::bootstrap_test
