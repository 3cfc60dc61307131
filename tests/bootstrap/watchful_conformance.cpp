// Of implementations that keep deadlines and notice lost ranks themselves.
#include <thread>

#include <gmock/gmock.h>

#include <crossdock/error.hpp>

#include "bootstrap/bootstrap_conformance.hpp"

namespace crossdock::bootstrap_test {

namespace {

using std::chrono::milliseconds;

constexpr milliseconds kPatience{20'000};

TEST_P(WatchfulBootstrapConformance, EveryRankNamesTheMissingOnes) {
  const Group group = GetParam().make_group(5);
  const auto start = std::chrono::steady_clock::now();
  run_ranks(5, [&](int rank) {
    if (rank == 2 || rank == 4) return;
    try {
      static_cast<void>(group[static_cast<std::size_t>(rank)]->all_gather(to_bytes("here"), milliseconds(500)));
      FAIL() << "no error on rank " << rank;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kTimeout) << error.what();
      EXPECT_THAT(error.what(), testing::HasSubstr("ranks 2, 4 of 5 did not come within 500 ms"));
      ASSERT_TRUE(error.wait().has_value());
      EXPECT_EQ(error.wait()->operation, "bootstrap");
      EXPECT_EQ(error.wait()->phase, "all_gather");
      EXPECT_EQ(error.wait()->epoch, 1U);
      EXPECT_EQ(error.rank(), 2);
      EXPECT_EQ(error.wait()->expected, 5U);
      EXPECT_EQ(error.wait()->seen, 3U);
    }
  });
  EXPECT_LT(std::chrono::steady_clock::now() - start, kPatience / 4);
}

TEST_P(WatchfulBootstrapConformance, EveryRankNamesRankZeroIfItIsMissing) {
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

TEST_P(WatchfulBootstrapConformance, ARankWithAShorterDeadlineEndsTheRoundForAll) {
  const Group group = GetParam().make_group(4);
  const auto start = std::chrono::steady_clock::now();
  run_ranks(4, [&](int rank) {
    if (rank == 2) return;
    try {
      group[static_cast<std::size_t>(rank)]->barrier(rank == 3 ? milliseconds(500) : kPatience);
      FAIL() << "no error on rank " << rank;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kTimeout) << error.what();
      EXPECT_EQ(error.rank(), 2) << error.what();
      EXPECT_THAT(error.what(), testing::HasSubstr("rank 2 of 4 did not come within 500 ms"));
    }
  });
  EXPECT_LT(std::chrono::steady_clock::now() - start, kPatience / 4);
}

TEST_P(WatchfulBootstrapConformance, EveryRankNamesTheOneThatLeft) {
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
        static_cast<void>(mine->all_gather(to_bytes("here"), kPatience));
        FAIL() << "no error on rank " << rank;
      } catch (const Error& error) {
        EXPECT_EQ(error.code(), ErrorCode::kPeerLost) << error.what();
        EXPECT_EQ(error.rank(), leaver) << error.what();
        EXPECT_THAT(error.what(), testing::HasSubstr("rank " + std::to_string(leaver)));
      }
    });
  }
}

TEST_P(WatchfulBootstrapConformance, AFailedGroupStaysFailed) {
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

TEST_P(WatchfulBootstrapConformance, DifferentCallsAreAnError) {
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
