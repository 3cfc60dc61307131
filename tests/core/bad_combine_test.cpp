// Wrong arguments of a combine or of a cached dispatch on one rank.
#include <gtest/gtest.h>

#include <functional>
#include <ostream>
#include <string>
#include <vector>

#include "core/refusal.hpp"
#include "core/round_trip.hpp"
#include "core/tensors.hpp"

namespace crossdock::testing {
namespace {

constexpr int kRanks = 3;
constexpr int kBadRank = 1;
constexpr std::int64_t kTokens = 5;  // of the bad rank
constexpr std::int64_t kHidden = 24;

struct BadCombine {
  std::string name;
  std::function<void(CombineInput&)> spoil;
  std::vector<std::string> texts;

  friend void PrintTo(const BadCombine& bad, std::ostream* out) { *out << bad.name; }
};

class BadCombineTest : public ::testing::TestWithParam<BadCombine> {};

TEST_P(BadCombineTest, IsRefusedByAllRanks) {
  for (const Completion completion : {Completion::kSynchronous, Completion::kAsynchronous}) {
    const auto attempts = attempt(kRanks, roomy_options(), [&](Buffer& buffer) {
      const DispatchOutput dispatched = buffer.dispatch(RoundTrip(buffer.rank(), kRanks).input());
      CombineInput input = combine_of(dispatched);
      if (buffer.rank() == kBadRank) GetParam().spoil(input);
      OperationOptions options;
      options.completion = completion;
      buffer.combine(input, options).event.wait();
    });
    expect_refusal(attempts, {ErrorCode::kInvalidArgument, kBadRank, GetParam().texts});
  }
}

std::int64_t rows_of(const CombineInput& input) { return input.x.size(0); }

Tensor bfloat16_rows(std::int64_t rows, std::int64_t hidden = kHidden) {
  return make_tensor(DataType::kBfloat16, {rows, hidden});
}

const BadCombine kBadRows[] = {
    {"MoreRowsThanReceived",
     [](CombineInput& in) { in.x = bfloat16_rows(rows_of(in) + 1); },
     {"rows, but the dispatch returned"}},
    {"FewerRowsThanReceived",
     [](CombineInput& in) { in.x = in.x.first(rows_of(in) - 1); },
     {"rows, but the dispatch returned"}},
    {"RowsOfFp8",
     [](CombineInput& in) {
       in.x = make_tensor(DataType::kFloat8E4m3, {rows_of(in), kHidden});
     },
     {"x is float8_e4m3 [", "bfloat16 or float32"}},
    {"RowsOfFloat16",
     [](CombineInput& in) {
       in.x = make_tensor(DataType::kFloat16, {rows_of(in), kHidden});
     },
     {"x is float16 [", "bfloat16 or float32"}},
    {"RowsUndefined", [](CombineInput& in) { in.x = Tensor(); }, {"x is uint8 []", "bfloat16 or float32"}},
    {"RowsOfOneDimension",
     [](CombineInput& in) { in.x = make_tensor(DataType::kBfloat16, {rows_of(in)}); },
     {"x has 1 dimensions", "2 are allowed"}},
    {"RowsTransposed",
     [](CombineInput& in) {
       in.x = in.x.with_strides({1, rows_of(in)});
     },
     {"rows of x must be contiguous"}},
    {"RowsOnAnotherDevice",
     [](CombineInput& in) {
       in.x = Tensor::borrow(in.x.data(), in.x.dtype(), in.x.shape(), Device{DeviceType::kCuda, 0});
     },
     {"x lies on CUDA device 0, but the buffer was made for the host"}},
    {"EmptyHandle", [](CombineInput& in) { in.handle = DispatchHandle(); }, {"the handle is empty"}},
};

const BadCombine kBadWeights[] = {
    {"WeightsOfInt32",
     [](CombineInput& in) {
       in.topk_weights = make_tensor(DataType::kInt32, {rows_of(in), 2});
     },
     {"topk_weights is int32 [", "float32 is allowed"}},
    {"WeightsWithMoreRows",
     [](CombineInput& in) {
       in.topk_weights = make_tensor(DataType::kFloat32, {rows_of(in) + 1, 2});
     },
     {"topk_weights is float32 [", "rows"}},
    {"WeightsOfNoColumns",
     [](CombineInput& in) {
       in.topk_weights = make_tensor(DataType::kFloat32, {rows_of(in), 0});
     },
     {"topk_weights is float32 [", "at least 1"}},
    {"WeightsTransposed",
     [](CombineInput& in) {
       in.topk_weights = make_tensor(DataType::kFloat32, {rows_of(in), 2}).with_strides({1, rows_of(in)});
     },
     {"topk_weights must be contiguous"}},
};

const BadCombine kBadBiases[] = {
    {"SecondBiasOnly", [](CombineInput& in) { in.bias_1 = bfloat16_rows(kTokens); }, {"bias_1 without bias_0"}},
    {"BiasOfAnotherType",
     [](CombineInput& in) {
       in.bias_0 = make_tensor(DataType::kFloat32, {kTokens, kHidden});
     },
     {"bias_0 is float32 [5, 24]", "x is bfloat16", "must be equal"}},
    {"BiasOfAnotherWidth",
     [](CombineInput& in) { in.bias_0 = bfloat16_rows(kTokens, 23); },
     {"bias_0 is bfloat16 [5, 23]", "must be equal"}},
    {"BiasOfFewerTokens",
     [](CombineInput& in) { in.bias_0 = bfloat16_rows(4); },
     {"bias_0 is bfloat16 [4, 24]", "5 rows"}},
    {"SecondBiasTransposed",
     [](CombineInput& in) {
       in.bias_0 = bfloat16_rows(kTokens);
       in.bias_1 = bfloat16_rows(kTokens).with_strides({1, kTokens});
     },
     {"rows of bias_1 must be contiguous"}},
    {"ResultOfFewerTokens", [](CombineInput& in) { in.out = bfloat16_rows(4); }, {"out is bfloat16 [4, 24]", "5 rows"}},
    {"ResultStrided",
     [](CombineInput& in) {
       in.out = make_tensor(DataType::kBfloat16, {kTokens, kHidden}, 100).with_strides({kHidden + 8, 1});
     },
     {"out must be contiguous"}},
    {"ResultOfAnotherType",
     [](CombineInput& in) {
       in.out = make_tensor(DataType::kFloat32, {kTokens, kHidden});
     },
     {"out is float32 [5, 24]", "x is bfloat16"}},
    {"NegativeNumberOfSms", [](CombineInput& in) { in.config = Config{.num_sms = -2}; }, {"-2"}},
};

std::string name_of_case(const ::testing::TestParamInfo<BadCombine>& info) { return info.param.name; }

INSTANTIATE_TEST_SUITE_P(Rows, BadCombineTest, ::testing::ValuesIn(kBadRows), name_of_case);
INSTANTIATE_TEST_SUITE_P(Weights, BadCombineTest, ::testing::ValuesIn(kBadWeights), name_of_case);
INSTANTIATE_TEST_SUITE_P(Biases, BadCombineTest, ::testing::ValuesIn(kBadBiases), name_of_case);

TEST(BadCombine, SaysBothNumbersOfRows) {
  std::string received;
  const auto attempts = attempt(kRanks, roomy_options(), [&](Buffer& buffer) {
    const DispatchOutput dispatched = buffer.dispatch(RoundTrip(buffer.rank(), kRanks).input());
    CombineInput input = combine_of(dispatched);
    if (buffer.rank() == kBadRank) {
      received = std::to_string(dispatched.recv_x.size(0));
      input.x = bfloat16_rows(77);
    }
    static_cast<void>(buffer.combine(input));
  });
  expect_refusal(attempts,
                 {ErrorCode::kInvalidArgument, kBadRank, {"x has 77 rows, but the dispatch returned " + received}});
}

using SpoilCached = std::function<void(CachedDispatchInput&)>;

void expect_cached_refusal(const SpoilCached& spoil, const std::vector<std::string>& texts) {
  const auto attempts = attempt(kRanks, roomy_options(), [&](Buffer& buffer) {
    const DispatchInput input = RoundTrip(buffer.rank(), kRanks).input();
    const DispatchOutput dispatched = buffer.dispatch(input);
    CachedDispatchInput cached = cached_of(input, dispatched);
    if (buffer.rank() == kBadRank) spoil(cached);
    static_cast<void>(buffer.dispatch(cached));
  });
  expect_refusal(attempts, {ErrorCode::kInvalidArgument, kBadRank, texts});
}

TEST(BadCachedDispatch, OtherNumberOfTokens) {
  expect_cached_refusal([](CachedDispatchInput& in) { in.x = bfloat16_rows(6); },
                        {"x has 6 rows", "the handle's dispatch had 5 tokens"});
}

TEST(BadCachedDispatch, ScalesOfOtherRows) {
  expect_cached_refusal(
      [](CachedDispatchInput& in) {
        in.x_scales = make_tensor(DataType::kFloat32, {4, 1});
      },
      {"x_scales is float32 [4, 1]", "5 rows"});
}

TEST(BadCachedDispatch, EmptyHandle) {
  expect_cached_refusal([](CachedDispatchInput& in) { in.handle = DispatchHandle(); }, {"the handle is empty"});
}

}  // namespace
}  // namespace crossdock::testing
