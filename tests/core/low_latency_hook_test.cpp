// Hooks that are called twice or never, the buffer that goes away before them, and calls that need no other rank.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <functional>
#include <string>
#include <vector>

#include "core/low_latency_refusal.hpp"
#include "support/ranks.hpp"

namespace crossdock::testing {
namespace {

constexpr int kRanks = 3;

OperationOptions hooked() {
  OperationOptions options;
  options.completion = Completion::kHook;
  return options;
}

/// Of one rank alone: the others know nothing of it.
void expect_error(const std::function<void()>& call, ErrorCode code, const std::vector<std::string>& texts) {
  try {
    call();
  } catch (const Error& error) {
    EXPECT_EQ(name_of(error.code()), name_of(code)) << error.what();
    for (const std::string& text : texts) EXPECT_THAT(error.what(), ::testing::HasSubstr(text));
    return;
  }
  ADD_FAILURE() << "nothing was thrown";
}

void expect_no_refusal(const std::vector<Attempt>& attempts) {
  for (const Attempt& mine : attempts) EXPECT_FALSE(mine.error.has_value()) << mine.error->what();
}

TEST(LowLatencyHook, IsCalledOnce) {
  expect_no_refusal(attempt_low_latency(kRanks, [](Buffer& buffer) {
    const LowLatencyDispatchInput dispatch = good_low_latency_dispatch(buffer);
    const LowLatencyDispatchOutput dispatched = buffer.low_latency_dispatch(dispatch, hooked());
    const ReceiveHook copy = dispatched.hook;
    dispatched.hook();
    const std::vector<std::string> twice{"low_latency_dispatch", "the hook of epoch 1 was called before"};
    expect_error([&] { dispatched.hook(); }, ErrorCode::kState, twice);
    expect_error([&] { copy(); }, ErrorCode::kState, twice);
    const LowLatencyCombineOutput combined =
        buffer.low_latency_combine(good_low_latency_combine(buffer, dispatched.handle, dispatch.topk_idx), hooked());
    combined.hook();
    expect_error([&] { combined.hook(); }, ErrorCode::kState,
                 {"low_latency_combine", "the hook of epoch 2 was called before"});
  }));
}

TEST(LowLatencyHook, OfAnOperationThatReceivedHasNothingToDo) {
  expect_no_refusal(attempt_low_latency(kRanks, [](Buffer& buffer) {
    const LowLatencyDispatchOutput dispatched = buffer.low_latency_dispatch(good_low_latency_dispatch(buffer));
    EXPECT_FALSE(dispatched.hook.defined());
    expect_error([&] { dispatched.hook(); }, ErrorCode::kState, {"this hook has nothing to receive"});
  }));
}

/// The error is of each next operation in turn, once for each hook; `next` is that operation.
void drop_a_hook(const std::function<void(Buffer&, const LowLatencyDispatchOutput&, const Tensor& ids)>& next,
                 const std::function<void(Buffer&, const LowLatencyDispatchOutput&, const Tensor& ids)>& drop,
                 const std::string& text) {
  constexpr int kForgetful = 2;
  const auto attempts = attempt_low_latency(kRanks, [&](Buffer& buffer) {
    const LowLatencyDispatchInput input = good_low_latency_dispatch(buffer);
    const LowLatencyDispatchOutput dispatched = buffer.low_latency_dispatch(input);
    if (buffer.rank() == kForgetful) {
      drop(buffer, dispatched, input.topk_idx);
    } else {
      finish(buffer.low_latency_dispatch(input, hooked()));
    }
    next(buffer, dispatched, input.topk_idx);
  });
  expect_refusal(attempts, {ErrorCode::kState, kForgetful, {text, "was dropped without a call"}});
}

void drop_dispatch(Buffer& buffer, const LowLatencyDispatchOutput& /*dispatched*/, const Tensor& /*ids*/) {
  static_cast<void>(buffer.low_latency_dispatch(good_low_latency_dispatch(buffer), hooked()));
}

TEST(LowLatencyHook, DroppedIsAnErrorOfTheNextDispatchOnAllRanks) {
  const auto next = [](Buffer& buffer, const LowLatencyDispatchOutput&, const Tensor&) {
    static_cast<void>(buffer.low_latency_dispatch(good_low_latency_dispatch(buffer)));
  };
  drop_a_hook(next, drop_dispatch, "the hook of low_latency_dispatch of epoch 2");
}

TEST(LowLatencyHook, DroppedIsAnErrorOfTheNextCombineOnAllRanks) {
  const auto next = [](Buffer& buffer, const LowLatencyDispatchOutput& dispatched, const Tensor& ids) {
    finish(buffer.low_latency_combine(good_low_latency_combine(buffer, dispatched.handle, ids), hooked()));
  };
  drop_a_hook(next, drop_dispatch, "the hook of low_latency_dispatch of epoch 2");
}

TEST(LowLatencyHook, DroppedIsAnErrorOfTheNextThroughputOperationOnAllRanks) {
  const auto next = [](Buffer& buffer, const LowLatencyDispatchOutput&, const Tensor&) { run_round_trip(buffer); };
  drop_a_hook(next, drop_dispatch, "the hook of low_latency_dispatch of epoch 2");
}

/// The others must not wait for the rank that forgot to read their rows.
TEST(LowLatencyHook, DroppedOfACombineHoldsUpNobody) {
  constexpr int kForgetful = 1;
  const auto attempts = attempt_low_latency(kRanks, [](Buffer& buffer) {
    const LowLatencyDispatchInput input = good_low_latency_dispatch(buffer);
    const LowLatencyDispatchOutput dispatched = buffer.low_latency_dispatch(input);
    const auto combine = [&] {
      return buffer.low_latency_combine(good_low_latency_combine(buffer, dispatched.handle, input.topk_idx), hooked());
    };
    if (buffer.rank() == kForgetful) {
      static_cast<void>(combine());
    } else {
      finish(combine());
    }
    static_cast<void>(buffer.low_latency_dispatch(input));
  });
  expect_refusal(attempts, {ErrorCode::kState, kForgetful, {"the hook of low_latency_combine of epoch 2"}});
}

/// All ranks keep the hook of epoch 1, or only one of them does; `next` is the operation that would wait for it.
void keep_a_hook(int keeper, const std::function<void(Buffer&)>& next, const std::string& name) {
  expect_no_refusal(attempt_low_latency(kRanks, [&](Buffer& buffer) {
    const LowLatencyDispatchInput input = good_low_latency_dispatch(buffer);
    const LowLatencyDispatchOutput kept = buffer.low_latency_dispatch(input, hooked());
    const bool keeps = keeper < 0 || buffer.rank() == keeper;
    if (!keeps) kept.hook();
    for (int i = 0; i < 15; ++i) finish(buffer.low_latency_dispatch(input, hooked()));
    if (keeps) {
      const auto begin = std::chrono::steady_clock::now();
      const std::string text = name + ": the hook of low_latency_dispatch of epoch 1 was not called yet";
      for (int i = 0; i < 2; ++i) {  // it is no operation, so it may be tried again
        expect_error([&] { next(buffer); }, ErrorCode::kState,
                     {"rank " + std::to_string(buffer.rank()), text, "16 operations"});
      }
      EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(1));
      kept.hook();
    }
    next(buffer);
  }));
}

TEST(LowLatencyHook, NotCalledIsAnErrorOfTheOperationThatWouldWaitForIt) {
  const auto next = [](Buffer& buffer) {
    static_cast<void>(buffer.low_latency_dispatch(good_low_latency_dispatch(buffer)));
  };
  keep_a_hook(-1, next, "low_latency_dispatch");
  keep_a_hook(1, next, "low_latency_dispatch");
}

TEST(LowLatencyHook, NotCalledIsAnErrorOfAThroughputOperationToo) {
  keep_a_hook(
      2, [](Buffer& buffer) { run_round_trip(buffer); }, "dispatch");
}

TEST(LowLatencyHook, AfterItsBufferHasGoneIsAnError) {
  run_as_threads(kRanks, [](const std::shared_ptr<Bootstrap>& bootstrap) {
    Buffer buffer(bootstrap, roomy_options());
    const LowLatencyDispatchOutput dispatched =
        buffer.low_latency_dispatch(good_low_latency_dispatch(buffer), hooked());
    buffer.destroy();
    expect_error([&] { dispatched.hook(); }, ErrorCode::kState, {"its buffer is gone"});
  });
}

TEST(CleanLowLatencyBuffer, DoesNothing) {
  expect_no_refusal(attempt_low_latency(kRanks, [](Buffer& buffer) {
    const LowLatencyWorld world = make_low_latency_world(7, {.num_ranks = kRanks, .max_hidden = 200, .max_tokens = 6});
    LowLatencyRun run(buffer, world);
    run.dispatch(hooked());
    const std::size_t bytes_free = buffer.arena_bytes_free();
    if (buffer.rank() == 0) buffer.clean_low_latency_buffer(128, 7168, 64);  // not a collective
    EXPECT_EQ(buffer.arena_bytes_free(), bytes_free);
    run.receive_dispatch();
    run.check_dispatch();
    buffer.clean_low_latency_buffer(0, 0, 0);
    run.combine(hooked());
    buffer.clean_low_latency_buffer(1, 1, 1);
    run.receive_combine();
    run.check_combine();
  }));
}

TEST(CleanLowLatencyBuffer, RefusesNegativeArguments) {
  expect_no_refusal(attempt_low_latency(1, [](Buffer& buffer) {
    expect_error([&] { buffer.clean_low_latency_buffer(-1, 7168, 64); }, ErrorCode::kInvalidArgument,
                 {"-1 tokens", "none may be negative"});
    expect_error([&] { buffer.clean_low_latency_buffer(128, -2, 64); }, ErrorCode::kInvalidArgument,
                 {"hidden -2", "none may be negative"});
    expect_error([&] { buffer.clean_low_latency_buffer(128, 7168, -3); }, ErrorCode::kInvalidArgument,
                 {"-3 experts", "none may be negative"});
  }));
}

TEST(NextCombineBuffer, RefusesHandlesOnThisRankAlone) {
  expect_no_refusal(attempt_low_latency(kRanks, [](Buffer& buffer) {
    if (buffer.rank() != 1) return;
    expect_error([&] { static_cast<void>(buffer.next_combine_buffer({})); }, ErrorCode::kInvalidArgument,
                 {"next_combine_buffer", "the handle is empty", "rank 1"});
  }));
}

}  // namespace
}  // namespace crossdock::testing
