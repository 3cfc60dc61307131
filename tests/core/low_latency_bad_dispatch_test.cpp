// Wrong arguments of a low-latency dispatch on one rank.
#include <gtest/gtest.h>

#include <functional>
#include <ostream>
#include <string>
#include <vector>

#include "core/low_latency_refusal.hpp"

namespace crossdock::testing {
namespace {

constexpr int kRanks = 3;
constexpr int kBadRank = 1;

struct BadDispatch {
  std::string name;
  std::function<void(LowLatencyDispatchInput&)> spoil;
  std::vector<std::string> texts;

  friend void PrintTo(const BadDispatch& bad, std::ostream* out) { *out << bad.name; }
};

class LowLatencyBadDispatch : public ::testing::TestWithParam<BadDispatch> {};

TEST_P(LowLatencyBadDispatch, IsRefusedByAllRanks) {
  for (const Completion completion : kCompletions) {
    const auto attempts = attempt_low_latency(kRanks, [&](Buffer& buffer) {
      LowLatencyDispatchInput input = good_low_latency_dispatch(buffer);
      if (buffer.rank() == kBadRank) GetParam().spoil(input);
      OperationOptions options;
      options.completion = completion;
      finish(buffer.low_latency_dispatch(input, options));
    });
    expect_refusal(attempts, {ErrorCode::kInvalidArgument, kBadRank, GetParam().texts});
  }
}

void fill_ids(const Tensor& ids, std::int64_t id) {
  for (std::int64_t i = 0; i < ids.num_elements(); ++i) set_id(ids, i, id);
}

const BadDispatch kBadRows[] = {
    {"NoRows", [](LowLatencyDispatchInput& in) { in.x = {}; }, {"bfloat16 is allowed"}},
    {"RowsOfFloat32",
     [](LowLatencyDispatchInput& in) {
       in.x = make_tensor(DataType::kFloat32, {5, 24});
     },
     {"x is float32 [5, 24], bfloat16 is allowed"}},
    {"RowsOfThreeDimensions",
     [](LowLatencyDispatchInput& in) {
       in.x = make_tensor(DataType::kBfloat16, {5, 4, 6});
     },
     {"x has 3 dimensions, 2 are allowed"}},
    {"RowsOfNothing",
     [](LowLatencyDispatchInput& in) {
       in.x = make_tensor(DataType::kBfloat16, {5, 0});
     },
     {"x is bfloat16 [5, 0], but hidden must be at least 1"}},
    {"ColumnMajorRows",
     [](LowLatencyDispatchInput& in) {
       in.x = in.x.with_strides({1, 5});
     },
     {"rows of x must be contiguous"}},
    {"OverlappingRows",
     [](LowLatencyDispatchInput& in) {
       in.x = in.x.with_strides({23, 1});
     },
     {"rows of x overlap: stride 23 for 24 elements"}},
    {"MoreTokensThanM",
     [](LowLatencyDispatchInput& in) { in.num_max_dispatch_tokens_per_rank = 4; },
     {"x has 5 tokens, but num_max_dispatch_tokens_per_rank is 4"}},
    {"NegativeM",
     [](LowLatencyDispatchInput& in) { in.num_max_dispatch_tokens_per_rank = -1; },
     {"num_max_dispatch_tokens_per_rank is -1, 0 to 715827882 are allowed"}},
    {"RowNumbersBeyond32Bits",
     [](LowLatencyDispatchInput& in) { in.num_max_dispatch_tokens_per_rank = 715827883; },
     {"num_max_dispatch_tokens_per_rank is 715827883, 0 to 715827882 are allowed"}},
};

const BadDispatch kBadIds[] = {
    {"NoExperts", [](LowLatencyDispatchInput& in) { in.num_experts = 0; }, {"num_experts is 0, at least 1 is allowed"}},
    {"MoreExpertsThanTheBufferHas",
     [](LowLatencyDispatchInput& in) { in.num_experts = 65; },
     {"num_experts is 65, but the buffer was made for at most 64"}},
    {"NoIds", [](LowLatencyDispatchInput& in) { in.topk_idx = {}; }, {"int64 or int32 is allowed"}},
    {"IdsOfFloat32",
     [](LowLatencyDispatchInput& in) {
       in.topk_idx = make_tensor(DataType::kFloat32, {5, 2});
     },
     {"topk_idx is float32 [5, 2], int64 or int32 is allowed"}},
    {"IdsOfOneDimension",
     [](LowLatencyDispatchInput& in) { in.topk_idx = make_tensor(DataType::kInt64, {5}); },
     {"topk_idx has 1 dimensions, 2 are allowed"}},
    {"IdsOfFewerTokens",
     [](LowLatencyDispatchInput& in) { in.topk_idx = in.topk_idx.first(4); },
     {"topk_idx is int64 [4, 2], but x has 5 tokens"}},
    {"NoColumnOfIds",
     [](LowLatencyDispatchInput& in) {
       in.topk_idx = make_tensor(DataType::kInt64, {5, 0});
     },
     {"topk_idx is int64 [5, 0], but top-k must be at least 1"}},
    {"ColumnMajorIds",
     [](LowLatencyDispatchInput& in) {
       in.topk_idx = in.topk_idx.with_strides({1, 5});
     },
     {"topk_idx must be contiguous"}},
    {"IdOfNoExpert",
     [](LowLatencyDispatchInput& in) { set_id(in.topk_idx, 5, 6); },
     {"topk_idx[2][1] is 6; allowed are -1 and 0 to 5"}},
    {"NegativeId",
     [](LowLatencyDispatchInput& in) { set_id(in.topk_idx, 4, -2); },
     {"topk_idx[2][0] is -2; allowed are -1 and 0 to 5"}},
    {"MoreRowsForAnExpertThanM",
     [](LowLatencyDispatchInput& in) { fill_ids(in.topk_idx, 3); },
     {"more than 8 rows for expert 3"}},
};

const BadDispatch kBadStatistics[] = {
    {"StatisticsOfInt64",
     [](LowLatencyDispatchInput& in) { in.cumulative_local_expert_recv_stats = make_tensor(DataType::kInt64, {2}); },
     {"cumulative_local_expert_recv_stats is int64 [2], contiguous int32 [2] is allowed"}},
    {"StatisticsOfOtherExperts",
     [](LowLatencyDispatchInput& in) { in.cumulative_local_expert_recv_stats = make_tensor(DataType::kInt32, {6}); },
     {"cumulative_local_expert_recv_stats is int32 [6], contiguous int32 [2] is allowed"}},
    {"StatisticsOfTwoDimensions",
     [](LowLatencyDispatchInput& in) {
       in.cumulative_local_expert_recv_stats = make_tensor(DataType::kInt32, {2, 1});
     },
     {"cumulative_local_expert_recv_stats is int32 [2, 1], contiguous int32 [2] is allowed"}},
    {"StatisticsWithGaps",
     [](LowLatencyDispatchInput& in) {
       in.cumulative_local_expert_recv_stats = make_tensor(DataType::kInt32, {2}, 2).with_strides({2});
     },
     {"cumulative_local_expert_recv_stats is", "contiguous int32 [2] is allowed"}},
};

std::string name_of_test(const ::testing::TestParamInfo<BadDispatch>& info) { return info.param.name; }

INSTANTIATE_TEST_SUITE_P(Rows, LowLatencyBadDispatch, ::testing::ValuesIn(kBadRows), name_of_test);
INSTANTIATE_TEST_SUITE_P(Ids, LowLatencyBadDispatch, ::testing::ValuesIn(kBadIds), name_of_test);
INSTANTIATE_TEST_SUITE_P(Statistics, LowLatencyBadDispatch, ::testing::ValuesIn(kBadStatistics), name_of_test);

struct BadOptions {
  std::string name;
  OperationOptions options;
  std::vector<std::string> texts;

  friend void PrintTo(const BadOptions& bad, std::ostream* out) { *out << bad.name; }
};

OperationOptions with_wait_costs(const Tensor& tensor) {
  OperationOptions options;
  options.wait_recv_cost_stats = tensor;
  return options;
}

OperationOptions with_timeout(Completion completion, int milliseconds) {
  OperationOptions options;
  options.completion = completion;
  options.timeout = Milliseconds(milliseconds);
  return options;
}

OperationOptions on_communication_stream(Completion completion) {
  OperationOptions options;
  options.completion = completion;
  options.allocation = Allocation::kCommunicationStream;
  return options;
}

class LowLatencyBadOptions : public ::testing::TestWithParam<BadOptions> {};

TEST_P(LowLatencyBadOptions, AreRefusedByAllRanksInBothOperations) {
  const auto dispatches = attempt_low_latency(kRanks, [&](Buffer& buffer) {
    finish(buffer.low_latency_dispatch(good_low_latency_dispatch(buffer),
                                       buffer.rank() == kBadRank ? GetParam().options : OperationOptions{}));
  });
  expect_refusal(dispatches, {ErrorCode::kInvalidArgument, kBadRank, GetParam().texts});
  const auto combines = attempt_low_latency(kRanks, [&](Buffer& buffer) {
    const LowLatencyDispatchInput input = good_low_latency_dispatch(buffer);
    const LowLatencyDispatchOutput dispatched = buffer.low_latency_dispatch(input);
    finish(buffer.low_latency_combine(good_low_latency_combine(buffer, dispatched.handle, input.topk_idx),
                                      buffer.rank() == kBadRank ? GetParam().options : OperationOptions{}));
  });
  expect_refusal(combines, {ErrorCode::kInvalidArgument, kBadRank, GetParam().texts});
}

const BadOptions kBadOptions[] = {
    {"WaitCostsOfInt32",
     with_wait_costs(make_tensor(DataType::kInt32, {kRanks})),
     {"wait_recv_cost_stats is int32 [3], contiguous int64 [3] is allowed"}},
    {"WaitCostsOfOtherRanks",
     with_wait_costs(make_tensor(DataType::kInt64, {kRanks + 1})),
     {"wait_recv_cost_stats is int64 [4], contiguous int64 [3] is allowed"}},
    {"WaitCostsOfTwoDimensions",
     with_wait_costs(make_tensor(DataType::kInt64, {1, kRanks})),
     {"wait_recv_cost_stats is int64 [1, 3], contiguous int64 [3] is allowed"}},
    {"NegativeTimeout", with_timeout(Completion::kSynchronous, -1), {"the timeout of -1 ms is negative"}},
    {"NegativeTimeoutOfAHook", with_timeout(Completion::kHook, -2), {"the timeout of -2 ms is negative"}},
    {"HookOnTheCommunicationStream",
     on_communication_stream(Completion::kHook),
     {"a hook runs on the caller's stream, not the communication stream"}},
    {"WaitingOnTheCommunicationStream",
     on_communication_stream(Completion::kSynchronous),
     {"needs kAsynchronous and a previous_event"}},
};

INSTANTIATE_TEST_SUITE_P(Options, LowLatencyBadOptions, ::testing::ValuesIn(kBadOptions),
                         [](const auto& test) { return test.param.name; });

}  // namespace
}  // namespace crossdock::testing
