// Shapes at the edges: rank counts, top-k, hidden sizes, element types, tokens that all go one way or nowhere.
#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "core/refusal.hpp"
#include "core/round_trip.hpp"
#include "support/ranks.hpp"

namespace crossdock::testing {
namespace {

BufferOptions options_for(const RoundTripShape& shape) {
  BufferOptions options = roomy_options();
  options.max_experts = std::max(shape.num_experts, options.max_experts);
  return options;
}

/// Synchronous and asynchronous, twice each, and once more with a cached dispatch and a combine of staged rows.
void run_shape(Buffer& buffer, const RoundTripShape& shape) {
  OperationOptions asynchronous;
  asynchronous.completion = Completion::kAsynchronous;
  for (int repetition = 0; repetition < 2; ++repetition) {
    run_round_trip(buffer, shape);
    run_round_trip(buffer, shape, asynchronous);
  }
  const RoundTrip trip(buffer.rank(), buffer.num_ranks(), shape);
  const DispatchInput input = trip.input();
  const DispatchOutput dispatched = buffer.dispatch(input);
  trip.check(buffer.dispatch(cached_of(input, dispatched)));
}

void run_shape_on(int num_ranks, const RoundTripShape& shape) {
  run_as_threads(num_ranks, [&](const std::shared_ptr<Bootstrap>& bootstrap) {
    Buffer buffer(bootstrap, options_for(shape));
    run_shape(buffer, shape);
  });
}

class RankCountTest : public ::testing::TestWithParam<int> {};

TEST_P(RankCountTest, RoundTrips) {
  RoundTripShape shape;
  shape.num_experts = 2 * GetParam();
  run_shape_on(GetParam(), shape);
}

INSTANTIATE_TEST_SUITE_P(Threads, RankCountTest, ::testing::Values(1, 2, 3, 5, 7, 16, 33, 64));

struct NamedShape {
  std::string name;
  int num_ranks = 3;
  RoundTripShape shape;
};

class ShapeTest : public ::testing::TestWithParam<NamedShape> {};

TEST_P(ShapeTest, RoundTrips) { run_shape_on(GetParam().num_ranks, GetParam().shape); }

const NamedShape kShapes[] = {
    {"TopK64", 3, {.num_topk = 64, .num_experts = 64}},
    {"TopKOfMoreThanAllExperts", 3, {.num_topk = 9, .num_experts = 4}},
    {"Hidden1", 3, {.hidden = 1}},
    {"Hidden1Float32", 3, {.hidden = 1, .dtype = DataType::kFloat32}},
    {"HiddenOdd", 3, {.hidden = 1023}},
    {"HiddenLarge", 2, {.hidden = 8191}},
    {"NoTokens", 3, {.num_tokens = 0}},
    {"NoTokensAndOneRank", 1, {.num_tokens = 0}},
    {"AllToOneExpert", 4, {.num_tokens = 50, .num_experts = 8, .only_expert = 5}},
    {"AThousandExpertsOn64Ranks", 64, {.num_tokens = 2, .num_topk = 8, .num_experts = 1000}},
    {"ThreeExpertsOnEightRanks", 8, {.num_experts = 3}},
    {"OneExpertOnFiveRanks", 5, {.num_experts = 1}},
    {"Int32Ids", 3, {.id_dtype = DataType::kInt32}},
    {"Scales", 3, {.num_scales = 5}},
    {"TransposedScales", 3, {.num_tokens = 17, .num_scales = 5, .transposed_scales = true}},
    {"ManyTokens", 2, {.num_tokens = 300, .hidden = 64, .num_topk = 4}},
};

INSTANTIATE_TEST_SUITE_P(Edges, ShapeTest, ::testing::ValuesIn(kShapes),
                         [](const auto& param) { return param.param.name; });

class DataTypeTest : public ::testing::TestWithParam<DataType> {};

TEST_P(DataTypeTest, MovesUnchanged) { run_shape_on(3, {.hidden = 33, .dtype = GetParam(), .num_scales = 1}); }

INSTANTIATE_TEST_SUITE_P(All, DataTypeTest,
                         ::testing::Values(DataType::kBool, DataType::kUint8, DataType::kInt8, DataType::kInt32,
                                           DataType::kInt64, DataType::kFloat8E4m3, DataType::kFloat16,
                                           DataType::kBfloat16, DataType::kFloat32),
                         [](const auto& param) { return std::string(name_of(param.param)); });

TEST(ExpertCounts, AreRoundedUpToTheAlignment) {
  run_as_threads(3, [](const std::shared_ptr<Bootstrap>& bootstrap) {
    Buffer buffer(bootstrap, roomy_options());
    DispatchInput input = RoundTrip(buffer.rank(), 3).input();
    const DispatchOutput exact = buffer.dispatch(input);
    input.expert_alignment = 16;
    const DispatchOutput aligned = buffer.dispatch(input);
    ASSERT_EQ(exact.num_recv_tokens_per_expert.size(), 2U);
    std::vector<std::int32_t> counted(2);
    const auto* ids = exact.recv_topk_idx->data_as<std::int64_t>();
    for (std::int64_t at = 0; at < exact.recv_topk_idx->num_elements(); ++at) {
      if (ids[at] >= 0) ++counted[static_cast<std::size_t>(ids[at])];
    }
    EXPECT_EQ(exact.num_recv_tokens_per_expert, counted);
    for (std::int32_t& count : counted) count = (count + 15) / 16 * 16;
    EXPECT_EQ(aligned.num_recv_tokens_per_expert, counted);
  });
}

}  // namespace
}  // namespace crossdock::testing
