// A rank that cannot make an operation's arguments refuses it, and the others hear why.
#include <gtest/gtest.h>

#include <functional>
#include <string>

#include "core/low_latency_refusal.hpp"

namespace crossdock::testing {
namespace {

constexpr int kRanks = 3;
constexpr int kRefusingRank = 1;

/// What rank 1 says instead of calling `operation` is thrown to the others.
void expect_heard(const std::function<void(Buffer&)>& operation) {
  const auto attempts = attempt_low_latency(kRanks, [&](Buffer& buffer) {
    if (buffer.rank() != kRefusingRank) return operation(buffer);
    const Error reason(ErrorCode::kUnsupported, "rank 1: x is a list");
    buffer.refuse(reason);
    throw Error(reason).with_rank(kRefusingRank);
  });
  expect_refusal(attempts, {ErrorCode::kUnsupported, kRefusingRank, {"x is a list"}});
}

TEST(RefuseTest, TakesThePlaceOfADispatch) {
  expect_heard([](Buffer& buffer) { static_cast<void>(buffer.dispatch(RoundTrip(buffer.rank(), kRanks).input())); });
}

TEST(RefuseTest, TakesThePlaceOfALowLatencyDispatch) {
  expect_heard(
      [](Buffer& buffer) { static_cast<void>(buffer.low_latency_dispatch(good_low_latency_dispatch(buffer))); });
}

TEST(RefuseTest, SeveralAtOnceAreHeardFromTheFirst) {
  const auto attempts = attempt(kRanks, roomy_options(), [](Buffer& buffer) {
    const Error reason(ErrorCode::kInvalidArgument, "rank " + std::to_string(buffer.rank()) + ": no input");
    if (buffer.rank() == 0) return static_cast<void>(buffer.dispatch(RoundTrip(0, kRanks).input()));
    buffer.refuse(reason);
    throw Error(reason).with_rank(buffer.rank());
  });
  EXPECT_EQ(attempts[0].error->rank(), 1) << attempts[0].error->what();
}

TEST(RefuseTest, ADestroyedBufferCannot) {
  Buffer buffer(make_in_process_bootstraps(1).front(), roomy_options());
  buffer.destroy();
  try {
    buffer.refuse(Error(ErrorCode::kInvalidArgument, "no input"));
    ADD_FAILURE() << "nothing was thrown";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kState) << error.what();
  }
}

}  // namespace
}  // namespace crossdock::testing
