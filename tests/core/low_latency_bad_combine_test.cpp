// Wrong arguments of a low-latency combine on one rank.
#include <gtest/gtest.h>

#include <cstring>
#include <functional>
#include <ostream>
#include <string>
#include <vector>

#include "core/low_latency_refusal.hpp"

namespace crossdock::testing {
namespace {

constexpr int kRanks = 3;
constexpr int kBadRank = 1;

struct BadCombine {
  std::string name;
  std::function<void(LowLatencyCombineInput&)> spoil;
  std::vector<std::string> texts;

  friend void PrintTo(const BadCombine& bad, std::ostream* out) { *out << bad.name; }
};

class LowLatencyBadCombine : public ::testing::TestWithParam<BadCombine> {};

TEST_P(LowLatencyBadCombine, IsRefusedByAllRanks) {
  for (const Completion completion : kCompletions) {
    const auto attempts = attempt_low_latency(kRanks, [&](Buffer& buffer) {
      const LowLatencyDispatchInput dispatch = good_low_latency_dispatch(buffer);
      const LowLatencyDispatchOutput dispatched = buffer.low_latency_dispatch(dispatch);
      LowLatencyCombineInput input = good_low_latency_combine(buffer, dispatched.handle, dispatch.topk_idx);
      if (buffer.rank() == kBadRank) GetParam().spoil(input);
      OperationOptions options;
      options.completion = completion;
      finish(buffer.low_latency_combine(input, options));
    });
    expect_refusal(attempts, {ErrorCode::kInvalidArgument, kBadRank, GetParam().texts});
  }
}

Tensor rows_of(DataType dtype, std::int64_t experts = 2, std::int64_t places = 24, std::int64_t hidden = 24) {
  return make_tensor(dtype, {experts, places, hidden});
}

const BadCombine kBadRows[] = {
    {"NoRows", [](LowLatencyCombineInput& in) { in.x = {}; }, {"bfloat16 [2, 24, 24] is allowed"}},
    {"RowsOfFloat32",
     [](LowLatencyCombineInput& in) { in.x = rows_of(DataType::kFloat32); },
     {"x is float32 [2, 24, 24], bfloat16 [2, 24, 24] is allowed"}},
    {"RowsOfOtherExperts",
     [](LowLatencyCombineInput& in) { in.x = rows_of(DataType::kBfloat16, 3); },
     {"x is bfloat16 [3, 24, 24], bfloat16 [2, 24, 24] is allowed"}},
    {"RowsOfAnotherM",
     [](LowLatencyCombineInput& in) { in.x = rows_of(DataType::kBfloat16, 2, 21); },
     {"x is bfloat16 [2, 21, 24], bfloat16 [2, 24, 24] is allowed"}},
    {"RowsOfAnotherHidden",
     [](LowLatencyCombineInput& in) { in.x = rows_of(DataType::kBfloat16, 2, 24, 25); },
     {"x is bfloat16 [2, 24, 25], bfloat16 [2, 24, 24] is allowed"}},
    {"RowsOfTwoDimensions",
     [](LowLatencyCombineInput& in) {
       in.x = make_tensor(DataType::kBfloat16, {48, 24});
     },
     {"x is bfloat16 [48, 24], bfloat16 [2, 24, 24] is allowed"}},
    {"ColumnMajorRows",
     [](LowLatencyCombineInput& in) {
       in.x = in.x.with_strides({24 * 24, 1, 24});
     },
     {"x must be contiguous"}},
};

const BadCombine kBadWeights[] = {
    {"NoWeights",
     [](LowLatencyCombineInput& in) { in.topk_weights = {}; },
     {"topk_weights is", "contiguous float32 [5, 2] is allowed"}},
    {"WeightsOfBfloat16",
     [](LowLatencyCombineInput& in) {
       in.topk_weights = make_tensor(DataType::kBfloat16, {5, 2});
     },
     {"topk_weights is bfloat16 [5, 2], contiguous float32 [5, 2] is allowed"}},
    {"WeightsOfFewerTokens",
     [](LowLatencyCombineInput& in) { in.topk_weights = in.topk_weights.first(4); },
     {"topk_weights is float32 [4, 2], contiguous float32 [5, 2] is allowed"}},
    {"WeightsOfMoreColumns",
     [](LowLatencyCombineInput& in) {
       in.topk_weights = make_tensor(DataType::kFloat32, {5, 3});
     },
     {"topk_weights is float32 [5, 3], contiguous float32 [5, 2] is allowed"}},
    {"ColumnMajorWeights",
     [](LowLatencyCombineInput& in) {
       in.topk_weights = in.topk_weights.with_strides({1, 5});
     },
     {"topk_weights is", "contiguous float32 [5, 2] is allowed"}},
};

const BadCombine kBadOutputs[] = {
    {"OutOfFloat32",
     [](LowLatencyCombineInput& in) {
       in.out = make_tensor(DataType::kFloat32, {5, 24});
     },
     {"out is float32 [5, 24], contiguous bfloat16 [5, 24] is allowed"}},
    {"OutOfMoreTokens",
     [](LowLatencyCombineInput& in) {
       in.out = make_tensor(DataType::kBfloat16, {8, 24});
     },
     {"out is bfloat16 [8, 24], contiguous bfloat16 [5, 24] is allowed"}},
    {"OutWithGaps",
     [](LowLatencyCombineInput& in) {
       in.out = make_tensor(DataType::kBfloat16, {5, 24}, 32).with_strides({26, 1});
     },
     {"out is", "contiguous bfloat16 [5, 24] is allowed"}},
};

const BadCombine kBadIds[] = {
    {"OtherIds",
     [](LowLatencyCombineInput& in) {
       in.topk_idx = make_tensor(DataType::kInt64, {5, 2});
     },
     {"topk_idx has other ids than the dispatch of epoch 1"}},
    {"OtherIdsOfInt32",
     [](LowLatencyCombineInput& in) {
       in.topk_idx = make_tensor(DataType::kInt32, {5, 2});
     },
     {"topk_idx has other ids than the dispatch of epoch 1"}},
    {"IdsOfMoreTokens",
     [](LowLatencyCombineInput& in) {
       in.topk_idx = make_tensor(DataType::kInt64, {6, 2});
     },
     {"topk_idx is int64 [6, 2], contiguous int64 or int32 [5, 2] is allowed"}},
    {"IdsOfFloat32",
     [](LowLatencyCombineInput& in) {
       in.topk_idx = make_tensor(DataType::kFloat32, {5, 2});
     },
     {"topk_idx is float32 [5, 2], contiguous int64 or int32 [5, 2] is allowed"}},
    {"ColumnMajorIds",
     [](LowLatencyCombineInput& in) {
       in.topk_idx = in.topk_idx->with_strides({1, 5});
     },
     {"topk_idx is", "contiguous int64 or int32 [5, 2] is allowed"}},
};

const BadCombine kBadHandling[] = {
    {"NoHandle", [](LowLatencyCombineInput& in) { in.handle = {}; }, {"the handle is empty"}},
    {"ZeroCopyOfRowsElsewhere",
     [](LowLatencyCombineInput& in) {
       in.x = rows_of(DataType::kBfloat16);
       in.zero_copy = true;
     },
     {"zero_copy: x is no tensor of next_combine_buffer"}},
    {"LogFmtWithZeroCopy",
     [](LowLatencyCombineInput& in) { in.zero_copy = in.use_logfmt = true; },
     {"use_logfmt with zero_copy"}},
};

std::string name_of_test(const ::testing::TestParamInfo<BadCombine>& info) { return info.param.name; }

INSTANTIATE_TEST_SUITE_P(Rows, LowLatencyBadCombine, ::testing::ValuesIn(kBadRows), name_of_test);
INSTANTIATE_TEST_SUITE_P(Weights, LowLatencyBadCombine, ::testing::ValuesIn(kBadWeights), name_of_test);
INSTANTIATE_TEST_SUITE_P(Outputs, LowLatencyBadCombine, ::testing::ValuesIn(kBadOutputs), name_of_test);
INSTANTIATE_TEST_SUITE_P(Ids, LowLatencyBadCombine, ::testing::ValuesIn(kBadIds), name_of_test);
INSTANTIATE_TEST_SUITE_P(Handling, LowLatencyBadCombine, ::testing::ValuesIn(kBadHandling), name_of_test);

/// A dispatch that has been received, and its ids.
struct Dispatched {
  explicit Dispatched(Buffer& buffer) {
    const LowLatencyDispatchInput input = good_low_latency_dispatch(buffer);
    topk_idx = input.topk_idx;
    output = buffer.low_latency_dispatch(input);
  }

  Tensor topk_idx;
  LowLatencyDispatchOutput output;
};

TEST(LowLatencyZeroCopy, TensorOfAnotherHandleIsRefusedByAllRanks) {
  const auto attempts = attempt_low_latency(kRanks, [](Buffer& buffer) {
    const Dispatched first(buffer);
    const Dispatched second(buffer);
    LowLatencyCombineInput input = good_low_latency_combine(buffer, first.output.handle, first.topk_idx);
    input.zero_copy = true;
    const Tensor of_first = input.x;
    if (buffer.rank() == kBadRank) input.x = buffer.next_combine_buffer(second.output.handle);
    try {
      static_cast<void>(buffer.low_latency_combine(input));
    } catch (const Error&) {
      // What was refused has not been handed over.
      input.x = buffer.rank() == kBadRank ? of_first : buffer.next_combine_buffer(first.output.handle);
      static_cast<void>(buffer.low_latency_combine(input));
      throw;
    }
  });
  expect_refusal(attempts,
                 {ErrorCode::kInvalidArgument,
                  kBadRank,
                  {"zero_copy: x is the combine buffer of the dispatch of epoch 2", "but the handle is of epoch 1"}});
}

TEST(LowLatencyZeroCopy, TensorThatACombineHasHadIsRefusedByAllRanks) {
  const auto attempts = attempt_low_latency(kRanks, [](Buffer& buffer) {
    const Dispatched dispatched(buffer);
    LowLatencyCombineInput input = good_low_latency_combine(buffer, dispatched.output.handle, dispatched.topk_idx);
    input.zero_copy = true;
    static_cast<void>(buffer.low_latency_combine(input));
    if (buffer.rank() != kBadRank) input.x = buffer.next_combine_buffer(dispatched.output.handle);
    static_cast<void>(buffer.low_latency_combine(input));
  });
  expect_refusal(attempts, {ErrorCode::kInvalidArgument, kBadRank, {"zero_copy", "a combine has had it"}});
}

/// The hook is still good, and so is the combine after it.
TEST(LowLatencyHook, CombineBeforeItIsRefusedByAllRanks) {
  for (const Completion completion : kCompletions) {
    const auto attempts = attempt_low_latency(kRanks, [&](Buffer& buffer) {
      const LowLatencyDispatchInput dispatch = good_low_latency_dispatch(buffer);
      OperationOptions options;
      options.completion = Completion::kHook;
      const LowLatencyDispatchOutput dispatched = buffer.low_latency_dispatch(dispatch, options);
      if (buffer.rank() != kBadRank) dispatched.hook();
      const LowLatencyCombineInput input = good_low_latency_combine(buffer, dispatched.handle, dispatch.topk_idx);
      std::memset(input.x.data(), 0, input.x.num_bytes());
      options.completion = completion;
      try {
        finish(buffer.low_latency_combine(input, options));
      } catch (const Error&) {
        if (buffer.rank() == kBadRank) dispatched.hook();
        finish(buffer.low_latency_combine(input, options));
        throw;
      }
    });
    expect_refusal(attempts, {ErrorCode::kInvalidArgument,
                              kBadRank,
                              {"the dispatch of the handle has not been received: its hook must be called first"}});
  }
}

TEST(LowLatencyHandle, OfAnotherBufferIsRefusedByAllRanks) {
  const auto bootstraps = make_in_process_bootstraps(kRanks);
  const auto attempts = attempt_low_latency(kRanks, [&](Buffer& buffer) {
    Buffer other(bootstraps[static_cast<std::size_t>(buffer.rank())], roomy_options());
    const Dispatched dispatched(buffer);
    const Dispatched elsewhere(other);
    LowLatencyCombineInput input = good_low_latency_combine(buffer, dispatched.output.handle, dispatched.topk_idx);
    if (buffer.rank() == kBadRank) input.handle = elsewhere.output.handle;
    static_cast<void>(buffer.low_latency_combine(input));
  });
  expect_refusal(attempts, {ErrorCode::kInvalidArgument, kBadRank, {"the handle belongs to another buffer"}});
}

}  // namespace
}  // namespace crossdock::testing
