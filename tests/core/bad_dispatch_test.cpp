// Wrong arguments of a dispatch on one rank: every rank hears of it, and nothing is lost.
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
constexpr int kBadRank = 1;  // it has five tokens

struct BadDispatch {
  std::string name;
  std::function<void(DispatchInput&)> spoil;
  std::vector<std::string> texts;

  friend void PrintTo(const BadDispatch& bad, std::ostream* out) { *out << bad.name; }
};

class BadDispatchTest : public ::testing::TestWithParam<BadDispatch> {};

TEST_P(BadDispatchTest, IsRefusedByAllRanks) {
  const auto attempts = attempt(kRanks, roomy_options(), [](Buffer& buffer) {
    RoundTripShape shape;
    shape.num_scales = 2;
    DispatchInput input = RoundTrip(buffer.rank(), kRanks, shape).input();
    if (buffer.rank() == kBadRank) GetParam().spoil(input);
    static_cast<void>(buffer.dispatch(input));
  });
  expect_refusal(attempts, {ErrorCode::kInvalidArgument, kBadRank, GetParam().texts});
}

/// The caller's own layout, as it should be but for what `spoil` does.
auto with_layout(const std::function<void(DispatchLayout&)>& spoil) {
  return [spoil](DispatchInput& input) {
    DispatchLayout layout;
    layout.num_tokens_per_rank = make_tensor(DataType::kInt32, {kRanks});
    layout.num_tokens_per_expert = make_tensor(DataType::kInt32, {6});
    layout.is_token_in_rank = make_tensor(DataType::kBool, {input.x.size(0), kRanks});
    layout.num_tokens_per_rank.data_as<std::int32_t>()[2] = 1;
    layout.is_token_in_rank.data_as<std::uint8_t>()[2] = 1;
    spoil(layout);
    input.layout = layout;
  };
}

const BadDispatch kBadIds[] = {
    {"IdAboveRange", [](DispatchInput& in) { set_id(*in.topk_idx, 5, 6); }, {"topk_idx[2][1] is 6", "-1 and 0 to 5"}},
    {"IdBelowRange", [](DispatchInput& in) { set_id(*in.topk_idx, 0, -2); }, {"topk_idx[0][0] is -2", "-1 and 0 to 5"}},
    {"IdFarOutOfRange",
     [](DispatchInput& in) { set_id(*in.topk_idx, 9, std::int64_t{1} << 40U); },
     {"topk_idx[4][1] is 1099511627776"}},
    {"Int32IdAboveRange",
     [](DispatchInput& in) {
       in.topk_idx = make_tensor(DataType::kInt32, {5, 2});
       set_id(*in.topk_idx, 3, 1000);
     },
     {"topk_idx[1][1] is 1000"}},
    {"IdOutOfRangeBesideALayout",
     [](DispatchInput& in) {
       with_layout([](DispatchLayout&) {})(in);
       set_id(*in.topk_idx, 2, INT64_MIN);
     },
     {"topk_idx[1][0] is -9223372036854775808"}},
};

const BadDispatch kBadTopk[] = {
    {"IdsOfFloat",
     [](DispatchInput& in) {
       in.topk_idx = make_tensor(DataType::kFloat32, {5, 2});
     },
     {"topk_idx is float32 [5, 2]", "int64 or int32"}},
    {"IdsOfOneDimension",
     [](DispatchInput& in) { in.topk_idx = make_tensor(DataType::kInt64, {5}); },
     {"topk_idx has 1 dimensions", "2 are allowed"}},
    {"IdsOfNoColumns",
     [](DispatchInput& in) {
       in.topk_idx = make_tensor(DataType::kInt64, {5, 0});
     },
     {"topk_idx is int64 [5, 0]", "at least 1"}},
    {"IdsWithFewerRows",
     [](DispatchInput& in) {
       in.topk_idx = make_tensor(DataType::kInt64, {4, 2});
     },
     {"topk_idx is int64 [4, 2]", "5 rows"}},
    {"IdsStrided",
     [](DispatchInput& in) {
       in.topk_idx = make_tensor(DataType::kInt64, {5, 2}, 10).with_strides({4, 1});
     },
     {"topk_idx must be contiguous"}},
    {"WeightsOfBfloat16",
     [](DispatchInput& in) {
       in.topk_weights = make_tensor(DataType::kBfloat16, {5, 2});
     },
     {"topk_weights is bfloat16 [5, 2]", "float32 is allowed"}},
    {"WeightsOfMoreColumns",
     [](DispatchInput& in) {
       in.topk_weights = make_tensor(DataType::kFloat32, {5, 3});
     },
     {"topk_weights is float32 [5, 3]", "topk_idx is int64 [5, 2]"}},
    {"WeightsWithMoreRows",
     [](DispatchInput& in) {
       in.topk_weights = make_tensor(DataType::kFloat32, {6, 2});
     },
     {"topk_weights is float32 [6, 2]", "5 rows"}},
    {"WeightsTransposed",
     [](DispatchInput& in) {
       in.topk_weights = make_tensor(DataType::kFloat32, {5, 2}).with_strides({1, 5});
     },
     {"topk_weights must be contiguous"}},
    {"IdsWithoutWeights",
     [](DispatchInput& in) { in.topk_weights.reset(); },
     {"topk_idx is present and topk_weights absent", "both or neither"}},
    {"WeightsWithoutIds",
     [](DispatchInput& in) { in.topk_idx.reset(); },
     {"topk_idx is absent and topk_weights present"}},
    {"NeitherTopkNorLayout",
     [](DispatchInput& in) {
       in.topk_idx.reset();
       in.topk_weights.reset();
     },
     {"without topk_idx the layout must be given"}},
};

const BadDispatch kBadRows[] = {
    {"XUndefined", [](DispatchInput& in) { in.x = Tensor(); }, {"x has 0 dimensions", "2 are allowed"}},
    {"XOfThreeDimensions",
     [](DispatchInput& in) {
       in.x = make_tensor(DataType::kBfloat16, {5, 24, 1});
     },
     {"x has 3 dimensions", "2 are allowed"}},
    {"XWithoutColumns",
     [](DispatchInput& in) {
       in.x = make_tensor(DataType::kBfloat16, {5, 0});
     },
     {"x is bfloat16 [5, 0]", "at least 1"}},
    {"XTransposed",
     [](DispatchInput& in) {
       in.x = make_tensor(DataType::kBfloat16, {5, 24}).with_strides({1, 5});
     },
     {"rows of x must be contiguous", "not 5"}},
    {"XWithOverlappingRows",
     [](DispatchInput& in) {
       in.x = in.x.with_strides({3, 1});
     },
     {"rows of x overlap", "stride 3"}},
    {"XOnAnotherDevice",
     [](DispatchInput& in) {
       in.x = Tensor::borrow(in.x.data(), in.x.dtype(), in.x.shape(), Device{DeviceType::kCuda, 0});
     },
     {"x lies on CUDA device 0, but the buffer was made for the host"}},
    {"ScalesWithFewerRows",
     [](DispatchInput& in) {
       in.x_scales = make_tensor(DataType::kFloat32, {4, 2});
     },
     {"x_scales is float32 [4, 2]", "5 rows"}},
    {"ScalesOfOneDimension",
     [](DispatchInput& in) { in.x_scales = make_tensor(DataType::kFloat32, {5}); },
     {"x_scales has 1 dimensions", "2 are allowed"}},
};

const BadDispatch kBadNumbers[] = {
    {"NoExperts", [](DispatchInput& in) { in.num_experts = 0; }, {"num_experts is 0", "at least 1"}},
    {"NegativeExperts", [](DispatchInput& in) { in.num_experts = -6; }, {"num_experts is -6", "at least 1"}},
    {"MoreExpertsThanTheBufferAllows",
     [](DispatchInput& in) { in.num_experts = 65; },
     {"num_experts is 65", "at most 64"}},
    {"NoAlignment", [](DispatchInput& in) { in.expert_alignment = 0; }, {"expert_alignment is 0", "at least 1"}},
    {"NegativeWorstCase",
     [](DispatchInput& in) { in.num_worst_tokens = -1; },
     {"num_worst_tokens is -1", "at least 0"}},
    {"WorstCaseWithoutTopk",
     [](DispatchInput& in) {
       with_layout([](DispatchLayout&) {})(in);
       in.topk_idx.reset();
       in.topk_weights.reset();
       in.num_worst_tokens = 10;
     },
     {"num_worst_tokens needs topk_idx"}},
    {"OddNumberOfSms", [](DispatchInput& in) { in.config = Config{.num_sms = 23}; }, {"23", "even"}},
};

const BadDispatch kBadLayouts[] = {
    {"CountsContradictMembership",
     with_layout([](DispatchLayout& l) { l.num_tokens_per_rank.data_as<std::int32_t>()[2] = 4; }),
     {"num_tokens_per_rank says 4 tokens for rank 2", "is_token_in_rank has 1"}},
    {"NegativeCount",
     with_layout([](DispatchLayout& l) { l.num_tokens_per_rank.data_as<std::int32_t>()[0] = -1; }),
     {"num_tokens_per_rank says -1 tokens for rank 0"}},
    {"CountsOfFewerRanks",
     with_layout([](DispatchLayout& l) { l.num_tokens_per_rank = make_tensor(DataType::kInt32, {2}); }),
     {"num_tokens_per_rank has 2 entries for 3 ranks"}},
    {"CountsOfInt64",
     with_layout([](DispatchLayout& l) { l.num_tokens_per_rank = make_tensor(DataType::kInt64, {3}); }),
     {"num_tokens_per_rank is int64 [3]", "int32"}},
    {"CountsUndefined",
     with_layout([](DispatchLayout& l) { l.num_tokens_per_rank = Tensor(); }),
     {"num_tokens_per_rank is uint8 []"}},
    {"ExpertCountsOfFewerExperts",
     with_layout([](DispatchLayout& l) { l.num_tokens_per_expert = make_tensor(DataType::kInt32, {5}); }),
     {"num_tokens_per_expert has 5 entries", "num_experts is 6"}},
    {"ExpertCountsUndefined",
     with_layout([](DispatchLayout& l) { l.num_tokens_per_expert = Tensor(); }),
     {"num_tokens_per_expert is uint8 []"}},
    {"MembershipOfFewerTokens",
     with_layout([](DispatchLayout& l) {
       l.is_token_in_rank = make_tensor(DataType::kBool, {4, kRanks});
     }),
     {"is_token_in_rank is bool [4, 3]", "5 rows"}},
    {"MembershipOfFewerRanks",
     with_layout([](DispatchLayout& l) {
       l.is_token_in_rank = make_tensor(DataType::kBool, {5, 2});
     }),
     {"is_token_in_rank is bool [5, 2]", "3 ranks"}},
    {"MembershipOfInt32",
     with_layout([](DispatchLayout& l) {
       l.is_token_in_rank = make_tensor(DataType::kInt32, {5, kRanks});
     }),
     {"is_token_in_rank is int32 [5, 3]", "bool"}},
    {"MembershipTransposed",
     with_layout([](DispatchLayout& l) {
       l.is_token_in_rank = l.is_token_in_rank.with_strides({1, 5});
     }),
     {"is_token_in_rank must be contiguous"}},
};

std::string name_of_case(const ::testing::TestParamInfo<BadDispatch>& info) { return info.param.name; }

INSTANTIATE_TEST_SUITE_P(Ids, BadDispatchTest, ::testing::ValuesIn(kBadIds), name_of_case);
INSTANTIATE_TEST_SUITE_P(Topk, BadDispatchTest, ::testing::ValuesIn(kBadTopk), name_of_case);
INSTANTIATE_TEST_SUITE_P(Rows, BadDispatchTest, ::testing::ValuesIn(kBadRows), name_of_case);
INSTANTIATE_TEST_SUITE_P(Numbers, BadDispatchTest, ::testing::ValuesIn(kBadNumbers), name_of_case);
INSTANTIATE_TEST_SUITE_P(Layouts, BadDispatchTest, ::testing::ValuesIn(kBadLayouts), name_of_case);

}  // namespace
}  // namespace crossdock::testing
