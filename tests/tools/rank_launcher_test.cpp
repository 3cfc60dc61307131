#include "crossdock/rank_launcher.hpp"

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <csignal>
#include <thread>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "crossdock/shared_block.hpp"
#include "crossdock/spin_barrier.hpp"

namespace crossdock::tool {
namespace {

using namespace std::chrono_literals;
using testing::HasSubstr;

LaunchOptions make_options(RankMode mode, int num_ranks, Milliseconds timeout = 60s) {
  LaunchOptions options;
  options.mode = mode;
  options.num_ranks = num_ranks;
  options.timeout = timeout;
  return options;
}

class RankLauncher : public testing::TestWithParam<RankMode> {};

TEST_P(RankLauncher, RunsEveryRankOnceInOneGroup) {
  constexpr int kRanks = 5;
  const SharedBlock<std::atomic<int>> runs(kRanks);
  const auto failures = run_ranks(make_options(GetParam(), kRanks), [&](const std::shared_ptr<Bootstrap>& bootstrap) {
    if (bootstrap->size() != kRanks) throw std::runtime_error("wrong size");
    bootstrap->barrier(10s);
    ++runs[static_cast<std::size_t>(bootstrap->rank())];
  });
  EXPECT_TRUE(failures.empty());
  for (const auto& count : runs.values()) EXPECT_EQ(count, 1);
}

TEST_P(RankLauncher, ReportsWhatARankThrows) {
  const auto failures = run_ranks(make_options(GetParam(), 3), [](const std::shared_ptr<Bootstrap>& bootstrap) {
    if (bootstrap->rank() == 1) throw Error(ErrorCode::kCapacity, "the shed is full");
  });
  ASSERT_EQ(failures.size(), 1U);
  EXPECT_EQ(failures[0].rank, 1);
  EXPECT_EQ(failures[0].code, ErrorCode::kCapacity);
  EXPECT_EQ(failures[0].message, "the shed is full");
}

TEST_P(RankLauncher, ThrowsTheFirstFailureWithItsRank) {
  try {
    run_ranks_or_throw(make_options(GetParam(), 2), [](const std::shared_ptr<Bootstrap>& bootstrap) {
      if (bootstrap->rank() == 1) throw std::runtime_error("no forklift");
    });
    FAIL() << "did not throw";
  } catch (const Error& error) {
    EXPECT_EQ(error.rank(), 1);
    EXPECT_STREQ(error.what(), "rank 1: no forklift");
  }
}

TEST_P(RankLauncher, RefusesZeroRanks) {
  EXPECT_THROW((void)run_ranks(make_options(GetParam(), 0), [](const auto&) {}), Error);
}

TEST_P(RankLauncher, TicksWhileItWaits) {
  auto options = make_options(GetParam(), 1);
  int ticks = 0;
  options.while_waiting = [&ticks] { ++ticks; };
  EXPECT_TRUE(run_ranks(options, [](const auto&) { std::this_thread::sleep_for(300ms); }).empty());
  EXPECT_GE(ticks, 2);
}

INSTANTIATE_TEST_SUITE_P(Modes, RankLauncher, testing::Values(RankMode::kProcesses, RankMode::kThreads),
                         [](const auto& test) { return test.param == RankMode::kThreads ? "Threads" : "Processes"; });

TEST(RankProcesses, AKilledRankIsTheCauseAndTheOthersAreKilled) {
  const auto start = std::chrono::steady_clock::now();
  const auto failures =
      run_ranks(make_options(RankMode::kProcesses, 3), [](const std::shared_ptr<Bootstrap>& bootstrap) {
        if (bootstrap->rank() == 2) std::raise(SIGKILL);
        std::this_thread::sleep_for(1h);
      });
  ASSERT_EQ(failures.size(), 1U);
  EXPECT_EQ(failures[0].rank, 2);
  EXPECT_THAT(failures[0].message, HasSubstr("signal 9"));
  EXPECT_LT(std::chrono::steady_clock::now() - start, 20s);
}

TEST(RankProcesses, ExitOfARankIsAFailureToo) {
  const auto failures = run_ranks(make_options(RankMode::kProcesses, 1), [](const auto&) { ::_exit(7); });
  ASSERT_EQ(failures.size(), 1U);
  EXPECT_THAT(failures[0].message, HasSubstr("status 7"));
}

TEST(RankProcesses, ADeadlineEndsEverything) {
  const auto failures =
      run_ranks(make_options(RankMode::kProcesses, 3, 1500ms), [](const std::shared_ptr<Bootstrap>& bootstrap) {
        if (bootstrap->rank() != 1) std::this_thread::sleep_for(1h);
      });
  ASSERT_EQ(failures.size(), 1U);
  EXPECT_EQ(failures[0].code, ErrorCode::kTimeout);
  EXPECT_EQ(failures[0].message, "2 of 3 ranks did not end within 1500 ms: 0, 2");
}

TEST(RankProcesses, RanksEndWithTheirLauncher) {
  const SharedBlock<std::atomic<pid_t>> rank(1);
  const pid_t launcher = ::fork();
  if (launcher == 0) {
    (void)run_ranks(make_options(RankMode::kProcesses, 1), [&](const auto&) {
      rank[0] = ::getpid();
      std::this_thread::sleep_for(1h);
    });
    ::_exit(0);
  }
  for (int i = 0; i < 2000 && rank[0] == 0; ++i) std::this_thread::sleep_for(5ms);
  ASSERT_NE(rank[0], 0);
  ::kill(launcher, SIGKILL);
  ::waitpid(launcher, nullptr, 0);
  bool gone = false;
  for (int i = 0; i < 2000 && !gone; ++i) {
    // Orphans are reaped by init, or stay as zombies where there is none; both are ended.
    std::this_thread::sleep_for(5ms);
    std::FILE* status = std::fopen(("/proc/" + std::to_string(rank[0].load()) + "/stat").c_str(), "r");
    char state = 'X';
    if (status != nullptr) {
      if (std::fscanf(status, "%*d (%*[^)]) %c", &state) != 1) state = 'X';
      std::fclose(status);
    }
    gone = state == 'Z' || state == 'X';
  }
  EXPECT_TRUE(gone);
}

TEST(SpinBarrier, OrdersRanksAndTellsThatOneGaveUp) {
  const SharedBlock<SpinBarrier> barrier(1);
  const SharedBlock<std::atomic<int>> sum(1);
  constexpr int kRanks = 4;
  const auto failures =
      run_ranks(make_options(RankMode::kThreads, kRanks), [&](const std::shared_ptr<Bootstrap>& bootstrap) {
        for (int i = 1; i <= 200; ++i) {
          sum[0].fetch_add(1, std::memory_order_relaxed);
          barrier[0].wait(kRanks, 0, 30s);
          if (sum[0].load(std::memory_order_relaxed) != i * kRanks) throw std::runtime_error("somebody was missing");
          barrier[0].wait(kRanks, 10, 30s);
        }
        if (bootstrap->rank() == 3) {
          barrier[0].break_off();
        } else {
          barrier[0].wait(kRanks, 0, 30s);
        }
      });
  ASSERT_EQ(failures.size(), 3U);
  EXPECT_EQ(failures[0].code, ErrorCode::kPeerLost);
}

TEST(SpinBarrier, HasADeadline) {
  const SharedBlock<SpinBarrier> barrier(1);
  EXPECT_THROW(barrier[0].wait(2, 0, 50ms), Error);
}

}  // namespace
}  // namespace crossdock::tool
