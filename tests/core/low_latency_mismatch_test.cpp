// Low-latency arguments that are right on each rank but do not fit together.
#include <gtest/gtest.h>

#include <functional>
#include <ostream>
#include <string>
#include <vector>

#include "core/low_latency_refusal.hpp"

namespace crossdock::testing {
namespace {

constexpr int kRanks = 3;
constexpr int kOtherRank = 1;

struct Mismatch {
  std::string name;
  std::function<void(LowLatencyDispatchInput&)> differ;
  std::vector<std::string> texts;

  friend void PrintTo(const Mismatch& mismatch, std::ostream* out) { *out << mismatch.name; }
};

class LowLatencyMismatch : public ::testing::TestWithParam<Mismatch> {};

TEST_P(LowLatencyMismatch, IsFoundOnAllRanks) {
  for (const Completion completion : kCompletions) {
    const auto attempts = attempt_low_latency(kRanks, [&](Buffer& buffer) {
      LowLatencyDispatchInput input = good_low_latency_dispatch(buffer);
      if (buffer.rank() == kOtherRank) GetParam().differ(input);
      OperationOptions options;
      options.completion = completion;
      finish(buffer.low_latency_dispatch(input, options));
    });
    expect_refusal(attempts, {ErrorCode::kMismatch, kOtherRank, GetParam().texts});
  }
}

const Mismatch kMismatches[] = {
    {"M",
     [](LowLatencyDispatchInput& in) { in.num_max_dispatch_tokens_per_rank = 9; },
     {"num_max_dispatch_tokens_per_rank: rank 0 has 8, rank 1 has 9"}},
    {"Hidden",
     [](LowLatencyDispatchInput& in) {
       in.x = make_tensor(DataType::kBfloat16, {5, 25});
     },
     {"hidden: rank 0 has 24, rank 1 has 25"}},
    {"RowFormat",
     [](LowLatencyDispatchInput& in) { in.format = RowFormat::kBfloat16; },
     {"the row format: rank 0 has FP8, rank 1 has bfloat16"}},
    {"RoundingOfScales",
     [](LowLatencyDispatchInput& in) { in.format = RowFormat::kFloat8PowerOfTwo; },
     {"the row format: rank 0 has FP8, rank 1 has FP8 with scales that are powers of two"}},
    {"TypeOfScales",
     [](LowLatencyDispatchInput& in) { in.format = RowFormat::kFloat8Ue8m0; },
     {"the row format: rank 0 has FP8, rank 1 has FP8 with UE8M0 scales"}},
    {"TopK",
     [](LowLatencyDispatchInput& in) {
       in.topk_idx = make_tensor(DataType::kInt64, {5, 1});
     },
     {"top-k: rank 0 has 2, rank 1 has 1"}},
    {"TypeOfIds",
     [](LowLatencyDispatchInput& in) {
       in.topk_idx = make_tensor(DataType::kInt32, {5, 2});
       for (std::int64_t i = 0; i < 10; ++i) set_id(in.topk_idx, i, i % 6);
     },
     {"the dtype of topk_idx: rank 0 has int64, rank 1 has int32"}},
    {"Experts",
     [](LowLatencyDispatchInput& in) {
       in.num_experts = 7;
       in.cumulative_local_expert_recv_stats.reset();
     },
     {"the number of experts: rank 0 has 6, rank 1 has 7"}},
};

INSTANTIATE_TEST_SUITE_P(Dispatch, LowLatencyMismatch, ::testing::ValuesIn(kMismatches),
                         [](const auto& test) { return test.param.name; });

TEST(LowLatencyMismatchOf, LogFmt) {
  for (const Completion completion : kCompletions) {
    const auto attempts = attempt_low_latency(kRanks, [&](Buffer& buffer) {
      const LowLatencyDispatchInput dispatch = good_low_latency_dispatch(buffer);
      const LowLatencyDispatchOutput dispatched = buffer.low_latency_dispatch(dispatch);
      LowLatencyCombineInput input = good_low_latency_combine(buffer, dispatched.handle, dispatch.topk_idx);
      input.use_logfmt = buffer.rank() == kOtherRank;
      OperationOptions options;
      options.completion = completion;
      finish(buffer.low_latency_combine(input, options));
    });
    expect_refusal(attempts,
                   {ErrorCode::kMismatch, kOtherRank, {"the row format: rank 0 has bfloat16, rank 1 has LogFMT"}});
  }
}

TEST(LowLatencyMismatchOf, TheHandlesDispatch) {
  const auto attempts = attempt_low_latency(kRanks, [](Buffer& buffer) {
    const LowLatencyDispatchInput dispatch = good_low_latency_dispatch(buffer);
    const LowLatencyDispatchOutput first = buffer.low_latency_dispatch(dispatch);
    const LowLatencyDispatchOutput second = buffer.low_latency_dispatch(dispatch);
    const LowLatencyHandle& handle = buffer.rank() == kOtherRank ? first.handle : second.handle;
    static_cast<void>(buffer.low_latency_combine(good_low_latency_combine(buffer, handle, dispatch.topk_idx)));
  });
  expect_refusal(
      attempts, {ErrorCode::kMismatch, kOtherRank, {"the epoch of the handle's dispatch: rank 0 has 2, rank 1 has 1"}});
}

TEST(LowLatencyMismatchOf, TheTwoOperations) {
  const auto attempts = attempt_low_latency(kRanks, [](Buffer& buffer) {
    const LowLatencyDispatchInput dispatch = good_low_latency_dispatch(buffer);
    const LowLatencyDispatchOutput first = buffer.low_latency_dispatch(dispatch);
    if (buffer.rank() == kOtherRank) {
      static_cast<void>(buffer.low_latency_combine(good_low_latency_combine(buffer, first.handle, dispatch.topk_idx)));
    } else {
      static_cast<void>(buffer.low_latency_dispatch(dispatch));
    }
  });
  expect_refusal(attempts, {ErrorCode::kMismatch,
                            kOtherRank,
                            {"the operation: rank 0 has low_latency_dispatch, rank 1 has low_latency_combine"}});
}

TEST(LowLatencyMismatchOf, TheTwoModes) {
  const auto attempts = attempt_low_latency(kRanks, [](Buffer& buffer) {
    if (buffer.rank() == kOtherRank) {
      static_cast<void>(buffer.dispatch(RoundTrip(buffer.rank(), kRanks).input()));
    } else {
      static_cast<void>(buffer.low_latency_dispatch(good_low_latency_dispatch(buffer)));
    }
  });
  expect_refusal(
      attempts,
      {ErrorCode::kMismatch, kOtherRank, {"the operation: rank 0 has low_latency_dispatch, rank 1 has dispatch"}});
}

}  // namespace
}  // namespace crossdock::testing
