// Ranks that leave or never come, as threads.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <functional>
#include <latch>
#include <string>
#include <thread>
#include <vector>

#include "core/refusal.hpp"
#include "core/round_trip.hpp"
#include "support/ranks.hpp"

namespace crossdock::testing {
namespace {

constexpr int kRanks = 3;
constexpr int kAbsentRank = 1;

using Clock = std::chrono::steady_clock;

struct Expected {
  ErrorCode code = ErrorCode::kTimeout;
  std::vector<std::string> texts;
  Milliseconds at_least{0};
  Milliseconds at_most{1000};
};

/// Then the buffer is broken: it says so, and can be destroyed at once.
void expect_loss(Buffer& buffer, const std::function<void()>& call, const Expected& expected) {
  const auto begin = Clock::now();
  try {
    call();
    ADD_FAILURE() << "nothing was thrown";
  } catch (const Error& error) {
    EXPECT_EQ(name_of(error.code()), name_of(expected.code)) << error.what();
    EXPECT_THAT(error.what(), ::testing::HasSubstr("rank " + std::to_string(buffer.rank())));
    for (const std::string& text : expected.texts) EXPECT_THAT(error.what(), ::testing::HasSubstr(text));
    ASSERT_TRUE(error.wait().has_value());
    EXPECT_EQ(error.wait()->rank, kAbsentRank);
    EXPECT_EQ(error.wait()->phase, "announce");
    EXPECT_LT(error.wait()->seen, error.wait()->expected);
  }
  EXPECT_GE(Clock::now() - begin, expected.at_least);
  EXPECT_LT(Clock::now() - begin, expected.at_most);
  EXPECT_FALSE(buffer.is_available());
  try {
    run_round_trip(buffer);
    ADD_FAILURE() << "a broken buffer worked";
  } catch (const Error& error) {
    EXPECT_EQ(name_of(error.code()), name_of(ErrorCode::kState)) << error.what();
  }
  const auto before_destroy = Clock::now();
  buffer.destroy();
  EXPECT_LT(Clock::now() - before_destroy, Milliseconds(200));
}

TEST(Departure, OfARankThatDestroysItsBuffer) {
  run_as_threads(kRanks, [](const std::shared_ptr<Bootstrap>& bootstrap) {
    Buffer buffer(bootstrap, roomy_options());
    run_round_trip(buffer);
    if (buffer.rank() == kAbsentRank) return buffer.destroy();
    const DispatchInput input = RoundTrip(buffer.rank(), kRanks).input();
    expect_loss(buffer, [&] { static_cast<void>(buffer.dispatch(input)); },
                {.code = ErrorCode::kPeerLost, .texts = {"dispatch", "rank 1 left", "epoch 3"}});
  });
}

TEST(Departure, IsNoticedByThoseWhoSleepAlready) {
  run_as_threads(2, [](const std::shared_ptr<Bootstrap>& bootstrap) {
    Buffer buffer(bootstrap, roomy_options());
    const DispatchInput input = RoundTrip(buffer.rank(), 2).input();
    if (buffer.rank() == kAbsentRank) {
      std::this_thread::sleep_for(Milliseconds(200));
      return buffer.destroy();
    }
    expect_loss(buffer, [&] { static_cast<void>(buffer.dispatch(input)); },
                {.code = ErrorCode::kPeerLost, .texts = {"rank 1 left"}, .at_least = Milliseconds(150)});
  });
}

TEST(Timeout, OfTheBufferNamesTheRankThatDidNotCome) {
  std::latch others_failed(kRanks - 1);
  run_as_threads(kRanks, [&](const std::shared_ptr<Bootstrap>& bootstrap) {
    BufferOptions options = roomy_options();
    options.timeout = Milliseconds(100);
    Buffer buffer(bootstrap, options);
    run_round_trip(buffer);
    if (buffer.rank() == kAbsentRank) return others_failed.wait();
    const DispatchInput input = RoundTrip(buffer.rank(), kRanks).input();
    // Both wait equally long; the one that gives up first is not the absent one.
    expect_loss(buffer, [&] { static_cast<void>(buffer.dispatch(input)); },
                {.texts = {"dispatch", "rank(s) 1 did not come within 100 ms"}, .at_least = Milliseconds(100)});
    others_failed.count_down();
  });
}

TEST(Timeout, OfTheCallOverridesThatOfTheBuffer) {
  std::latch other_failed(1);
  run_as_threads(2, [&](const std::shared_ptr<Bootstrap>& bootstrap) {
    Buffer buffer(bootstrap, roomy_options());
    const DispatchOutput dispatched = buffer.dispatch(RoundTrip(buffer.rank(), 2).input());
    if (buffer.rank() == kAbsentRank) {
      other_failed.wait();
      try {
        static_cast<void>(buffer.combine(combine_of(dispatched)));
        ADD_FAILURE() << "the other rank had given up";
      } catch (const Error& error) {
        EXPECT_EQ(name_of(error.code()), name_of(ErrorCode::kPeerLost));
        EXPECT_THAT(error.what(), ::testing::HasSubstr("rank 0 gave up"));
      }
      return;
    }
    OperationOptions options;
    options.timeout = Milliseconds(150);
    expect_loss(buffer, [&] { static_cast<void>(buffer.combine(combine_of(dispatched), options)); },
                {.texts = {"combine", "rank(s) 1 did not come within 150 ms"}, .at_least = Milliseconds(150)});
    other_failed.count_down();
  });
}

TEST(Timeout, OfAnAsynchronousOperationIsThrownByItsEvent) {
  std::latch other_failed(1);
  run_as_threads(2, [&](const std::shared_ptr<Bootstrap>& bootstrap) {
    Buffer buffer(bootstrap, roomy_options());
    if (buffer.rank() == kAbsentRank) return other_failed.wait();
    OperationOptions options;
    options.completion = Completion::kAsynchronous;
    options.timeout = Milliseconds(150);
    DispatchInput input = RoundTrip(buffer.rank(), 2).input();
    input.num_worst_tokens = 20;
    const DispatchOutput dispatched = buffer.dispatch(input, options);
    expect_loss(buffer, [&] { dispatched.event.wait(); }, {.texts = {"rank(s) 1 did not come within 150 ms"}});
    other_failed.count_down();
  });
}

TEST(Timeout, DestroyReturnsWhileAnOperationWaits) {
  std::latch other_left(1);
  run_as_threads(2, [&](const std::shared_ptr<Bootstrap>& bootstrap) {
    Buffer buffer(bootstrap, roomy_options());
    if (buffer.rank() == kAbsentRank) return other_left.wait();
    OperationOptions options;
    options.completion = Completion::kAsynchronous;
    options.timeout = Milliseconds(300);
    DispatchInput input = RoundTrip(buffer.rank(), 2).input();
    input.num_worst_tokens = 20;
    std::vector<DispatchOutput> outputs;
    for (int i = 0; i < 10; ++i) outputs.push_back(buffer.dispatch(input, options));
    const auto begin = Clock::now();
    buffer.destroy();  // ten operations, but the first to give up breaks the others
    EXPECT_LT(Clock::now() - begin, Milliseconds(1000));
    for (const DispatchOutput& output : outputs) EXPECT_THROW(output.event.wait(), Error);
    other_left.count_down();
  });
}

}  // namespace
}  // namespace crossdock::testing
