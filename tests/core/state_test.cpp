// Handles and buffers used where they cannot be: other buffers, failed dispatches, destroyed buffers, timeouts.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "core/refusal.hpp"
#include "core/round_trip.hpp"
#include "core/tensors.hpp"
#include "support/ranks.hpp"

namespace crossdock::testing {
namespace {

constexpr int kRanks = 3;
constexpr int kBadRank = 1;

TEST(HandleOfAnotherBuffer, IsRefused) {
  std::vector<Attempt> combines(kRanks);
  std::vector<Attempt> dispatches(kRanks);
  run_as_threads(kRanks, [&](const std::shared_ptr<Bootstrap>& bootstrap) {
    Buffer other(bootstrap, roomy_options());
    Buffer buffer(bootstrap, roomy_options());
    const auto rank = static_cast<std::size_t>(buffer.rank());
    const DispatchInput input = RoundTrip(buffer.rank(), kRanks).input();
    const DispatchOutput foreign = other.dispatch(input);
    const DispatchOutput own = buffer.dispatch(input);
    const DispatchOutput& given = buffer.rank() == kBadRank ? foreign : own;
    try {
      static_cast<void>(buffer.combine(combine_of(given)));
    } catch (const Error& error) {
      combines[rank].error = error;
    }
    try {
      static_cast<void>(buffer.dispatch(cached_of(input, given)));
    } catch (const Error& error) {
      dispatches[rank].error = error;
    }
    EXPECT_THROW(static_cast<void>(buffer.combine_input(foreign.handle, 8)), Error);
    run_round_trip(buffer);
    run_round_trip(other);
  });
  expect_refusal(combines,
                 {ErrorCode::kInvalidArgument, kBadRank, {"combine", "the handle belongs to another buffer"}});
  expect_refusal(dispatches,
                 {ErrorCode::kInvalidArgument, kBadRank, {"dispatch", "the handle belongs to another buffer"}});
}

TEST(HandleOfAFailedDispatch, IsRefusedWithTheReason) {
  for (const bool is_cached : {false, true}) {
    const auto attempts = attempt(kRanks, roomy_options(), [&](Buffer& buffer) {
      DispatchInput input = RoundTrip(buffer.rank(), kRanks).input();
      input.num_worst_tokens = 1;
      OperationOptions options;
      options.completion = Completion::kAsynchronous;
      const DispatchOutput failed = buffer.dispatch(input, options);
      EXPECT_THROW(failed.event.wait(), Error);
      EXPECT_THROW(static_cast<void>(failed.handle.parity_matrices(2)), Error);
      if (is_cached) {
        static_cast<void>(buffer.dispatch(cached_of(input, failed)));
      } else {
        static_cast<void>(buffer.combine(combine_of(failed)));
      }
    });
    for (const Attempt& attempted : attempts) {
      ASSERT_TRUE(attempted.error.has_value());
      EXPECT_EQ(name_of(attempted.error->code()), name_of(ErrorCode::kCapacity));
      EXPECT_THAT(attempted.error->what(), ::testing::HasSubstr("num_worst_tokens is 1"));
      EXPECT_LT(attempted.milliseconds, 1000);
    }
  }
}

void expect_destroyed(const std::function<void()>& call) {
  try {
    call();
    ADD_FAILURE() << "a destroyed buffer worked";
  } catch (const Error& error) {
    EXPECT_EQ(name_of(error.code()), name_of(ErrorCode::kState)) << error.what();
    EXPECT_THAT(error.what(), ::testing::HasSubstr("destroyed"));
    EXPECT_THAT(error.what(), ::testing::ContainsRegex("rank [0-2]"));
  }
}

TEST(DestroyedBuffer, RefusesEveryOperation) {
  run_as_threads(kRanks, [](const std::shared_ptr<Bootstrap>& bootstrap) {
    Buffer buffer(bootstrap, roomy_options());
    const DispatchInput input = RoundTrip(buffer.rank(), kRanks).input();
    const DispatchOutput dispatched = buffer.dispatch(input);
    buffer.destroy();
    buffer.destroy();
    EXPECT_FALSE(buffer.is_available());
    EXPECT_EQ(buffer.num_ranks(), kRanks);
    expect_destroyed([&] { static_cast<void>(buffer.dispatch(input)); });
    expect_destroyed([&] { static_cast<void>(buffer.dispatch(cached_of(input, dispatched))); });
    expect_destroyed([&] { static_cast<void>(buffer.combine(combine_of(dispatched))); });
    expect_destroyed([&] { static_cast<void>(buffer.combine_input(dispatched.handle, 8)); });
    expect_destroyed([&] { static_cast<void>(buffer.get_dispatch_layout(*input.topk_idx, 6)); });
    expect_destroyed([&] { static_cast<void>(buffer.arena_bytes_free()); });
    RoundTrip(buffer.rank(), kRanks).check(dispatched);  // tensors and handles remain
  });
}

TEST(NegativeTimeout, IsRefused) {
  const auto attempts = attempt(kRanks, roomy_options(), [](Buffer& buffer) {
    for (int i = 0; i < 40; ++i) run_round_trip(buffer);  // so that the slots are used and must be waited for
    OperationOptions options;
    if (buffer.rank() == kBadRank) options.timeout = Milliseconds(-5);
    static_cast<void>(buffer.dispatch(RoundTrip(buffer.rank(), kRanks).input(), options));
  });
  expect_refusal(attempts, {ErrorCode::kInvalidArgument, kBadRank, {"timeout of -5 ms is negative"}});
}

TEST(NegativeTimeout, IsRefusedWhileAPeerIsFarBehind) {
  run_as_threads(2, [](const std::shared_ptr<Bootstrap>& bootstrap) {
    Buffer buffer(bootstrap, roomy_options());
    const RoundTrip trip(buffer.rank(), 2);
    DispatchInput input = trip.input();
    input.num_worst_tokens = 20;
    OperationOptions options;
    options.completion = Completion::kAsynchronous;
    std::vector<DispatchOutput> outputs;
    if (buffer.rank() == 1) std::this_thread::sleep_for(Milliseconds(100));
    for (int i = 0; i < 16; ++i) outputs.push_back(buffer.dispatch(input, options));
    OperationOptions bad = options;
    if (buffer.rank() == 0) bad.timeout = Milliseconds(-5);
    EXPECT_THROW(buffer.dispatch(input, bad).event.wait(), Error);
    for (const DispatchOutput& output : outputs) output.event.wait();
    run_round_trip(buffer);
  });
}

TEST(AllocationOnTheCommunicationStream, NeedsAsynchronousAndAPreviousEvent) {
  const auto is_refused = [](Completion completion, bool with_event) {
    const auto attempts = attempt(kRanks, roomy_options(), [&](Buffer& buffer) {
      OperationOptions options;
      if (buffer.rank() == kBadRank) {
        options.allocation = Allocation::kCommunicationStream;
        options.completion = completion;
        if (with_event) options.previous_event = buffer.capture();
      }
      static_cast<void>(buffer.dispatch(RoundTrip(buffer.rank(), kRanks).input(), options));
    });
    expect_refusal(attempts, {ErrorCode::kInvalidArgument, kBadRank, {"kAsynchronous and a previous_event"}});
  };
  is_refused(Completion::kSynchronous, false);
  is_refused(Completion::kSynchronous, true);
  is_refused(Completion::kAsynchronous, false);
}

TEST(EmptyHandle, CannotBeLookedAt) {
  const DispatchHandle handle;
  EXPECT_FALSE(handle.defined());
  EXPECT_THROW(static_cast<void>(handle.num_tokens()), Error);
  EXPECT_THROW(static_cast<void>(handle.recv_src_idx()), Error);
  EXPECT_THROW(static_cast<void>(handle.parity_matrices(1)), Error);
}

TEST(BadLayout, IsALocalError) {
  run_as_threads(1, [](const std::shared_ptr<Bootstrap>& bootstrap) {
    Buffer buffer(bootstrap, roomy_options());
    const auto expect_text = [&](const Tensor& ids, int num_experts, const std::string& text) {
      try {
        static_cast<void>(buffer.get_dispatch_layout(ids, num_experts));
        ADD_FAILURE() << "no error: " << text;
      } catch (const Error& error) {
        EXPECT_EQ(name_of(error.code()), name_of(ErrorCode::kInvalidArgument));
        EXPECT_THAT(error.what(),
                    ::testing::AllOf(::testing::HasSubstr("rank 0: get_dispatch_layout"), ::testing::HasSubstr(text)));
      }
    };
    const Tensor ids = make_tensor(DataType::kInt64, {3, 2});
    expect_text(ids, 0, "num_experts is 0");
    expect_text(ids, 65, "at most 64");
    expect_text(make_tensor(DataType::kInt8, {3, 2}), 6, "topk_idx is int8 [3, 2]");
    expect_text(ids.with_strides({1, 3}), 6, "contiguous");
    set_id(ids, 4, 6);
    expect_text(ids, 6, "topk_idx[2][0] is 6");
    run_round_trip(buffer);
  });
}

}  // namespace
}  // namespace crossdock::testing
