// The oracle on worlds that are small enough to write down; low_latency_random_test.cpp has larger ones.
#include "reference/low_latency.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>

#include "base/error.hpp"

namespace crossdock::reference::low_latency {
namespace {

using ::testing::Each;
using ::testing::ElementsAre;
using ::testing::IsEmpty;

using Ids = std::vector<std::int64_t>;
using Floats = std::vector<float>;
using Row = std::vector<Bfloat16>;

Row row_of(const Floats& values) {
  Row row;
  for (const float value : values) row.push_back(to_bfloat16(value));
  return row;
}

Floats floats_of(const Row& row) {
  Floats values;
  for (const Bfloat16 value : row) values.push_back(to_float(value));
  return values;
}

std::int64_t range(std::int64_t begin, std::int64_t count) { return begin * (std::int64_t{1} << 32) + count; }

/// Two ranks with experts {0, 1} and {2}; hidden 1, M = 2, so four places for each expert.
DispatchWorld small_world() {
  DispatchWorld world{.num_experts = 3, .num_topk = 2, .hidden = 1, .max_tokens = 2, .is_masked = {}, .ranks = {}};
  world.ranks.push_back({.num_tokens = 2, .x = row_of({10, 11}), .topk_idx = Ids{1, 2, 0, -1}, .statistics = {5, 6}});
  world.ranks.push_back({.num_tokens = 2, .x = row_of({20, 21}), .topk_idx = Ids{2, 1, 1, -1}, .statistics = {}});
  return world;
}

TEST(LowLatencyDispatch, PacksTheRowsOfEachExpert) {
  const auto result = dispatch(small_world());
  ASSERT_EQ(result.size(), 2U);
  EXPECT_THAT(floats_of(result[0].x), ElementsAre(11, 0, 0, 0, 10, 20, 21, 0));
  EXPECT_THAT(result[0].count, ElementsAre(1, 3));
  EXPECT_THAT(result[0].src_info, ElementsAre(1, 0, 0, 0, 0, 0, 1, 0));
  EXPECT_THAT(result[0].layout_range, ElementsAre(range(0, 1), range(1, 0), range(0, 1), range(1, 2)));
  EXPECT_THAT(floats_of(result[1].x), ElementsAre(10, 20, 0, 0));
  EXPECT_THAT(result[1].count, ElementsAre(2));
  EXPECT_THAT(result[1].layout_range, ElementsAre(range(0, 1), range(1, 1)));
}

TEST(LowLatencyDispatch, CountsReceivedTokens) {
  const auto result = dispatch(small_world());
  EXPECT_THAT(result[0].statistics, ElementsAre(6, 9));
  EXPECT_THAT(result[1].statistics, IsEmpty());
}

TEST(LowLatencyDispatch, GivesADuplicatedExpertTwoRows) {
  DispatchWorld world = small_world();
  world.ranks[1].num_tokens = 1;
  world.ranks[1].topk_idx = {2, 2};
  const auto result = dispatch(world);
  EXPECT_THAT(floats_of(result[1].x), ElementsAre(10, 20, 20, 0));
  EXPECT_THAT(result[1].src_info, ElementsAre(0, 0, 0, 0));
  EXPECT_THAT(result[1].layout_range, ElementsAre(range(0, 1), range(1, 2)));
}

TEST(LowLatencyDispatch, LeavesMaskedRanksOut) {
  DispatchWorld world = small_world();
  world.is_masked = {0, 1};
  world.ranks[1].topk_idx[0] = 99;  // nobody looks at it
  const auto result = dispatch(world);
  EXPECT_THAT(floats_of(result[0].x), ElementsAre(11, 0, 0, 0, 10, 0, 0, 0));
  EXPECT_THAT(result[0].layout_range, ElementsAre(range(0, 1), range(1, 0), range(0, 1), range(1, 0)));
  EXPECT_THAT(result[1].count, ElementsAre(0));
  EXPECT_THAT(result[1].layout_range, Each(0));
  world = small_world();
  world.is_masked = {1, 0};
  EXPECT_THAT(dispatch(world)[0].statistics, ElementsAre(5, 6));
  EXPECT_THAT(dispatch(world)[1].layout_range, ElementsAre(range(0, 0), range(0, 1)));
}

TEST(LowLatencyDispatch, RefusesWhatHasNoRoomOrNoExpert) {
  DispatchWorld world = small_world();
  world.ranks[0].topk_idx[3] = 3;
  EXPECT_THROW((void)dispatch(world), Error);
  world.ranks[0].topk_idx[3] = -2;
  EXPECT_THROW((void)dispatch(world), Error);
  world = small_world();
  world.max_tokens = 1;
  EXPECT_THROW((void)dispatch(world), Error);
  world = small_world();
  world.ranks[0].topk_idx = {2, 2, 2, -1};  // three rows for one expert, and M is 2
  EXPECT_THROW((void)dispatch(world), Error);
}

/// One rank with one expert, M = 3, two tokens of two groups (the second is short): amax 448 and 2, 1 and 0.
DispatchWorld float8_world(RowFormat format) {
  DispatchWorld world{
      .num_experts = 1, .num_topk = 1, .hidden = 130, .max_tokens = 3, .format = format, .is_masked = {}, .ranks = {}};
  Floats x(260, 0.0F);
  x[0] = -448.0F;
  x[1] = 1.0F;
  x[128] = 2.0F;
  x[129] = 1.0F;
  x[130] = 1.0F;
  world.ranks.push_back({.num_tokens = 2, .x = row_of(x), .topk_idx = Ids{0, 0}, .statistics = {}});
  return world;
}

TEST(LowLatencyDispatch, CastsToFloat8WithScalesInColumns) {
  const auto result = dispatch(float8_world(RowFormat::kFloat8))[0];
  EXPECT_THAT(result.x, IsEmpty());
  EXPECT_THAT(result.packed_scales, IsEmpty());
  ASSERT_EQ(result.x_float8.size(), 3U * 130U);
  EXPECT_EQ(result.x_float8[0], 0xFE);
  EXPECT_EQ(result.x_float8[1], 0x38);
  EXPECT_EQ(result.x_float8[128], 0x7E);
  EXPECT_EQ(result.x_float8[129], 0x76);
  EXPECT_EQ(result.x_float8[130], 0x7E);
  const float unit = 1.0F / 448.0F;
  EXPECT_THAT(result.scales, ElementsAre(1.0F, unit, 0.0F, 2.0F * unit, 1e-4F * unit, 0.0F));
}

TEST(LowLatencyDispatch, RoundsScalesToPowersOfTwo) {
  const auto result = dispatch(float8_world(RowFormat::kFloat8PowerOfTwo))[0];
  EXPECT_THAT(result.scales, ElementsAre(1.0F, 0x1p-8F, 0.0F, 0x1p-7F, 0x1p-22F, 0.0F));
  EXPECT_EQ(result.x_float8[128], 0x78);  // 2 * 2^7 = 256
}

TEST(LowLatencyDispatch, PacksExponentsOfScales) {
  const auto result = dispatch(float8_world(RowFormat::kFloat8Ue8m0))[0];
  EXPECT_THAT(result.scales, IsEmpty());
  EXPECT_THAT(result.packed_scales, ElementsAre(127 + 120 * 256, 119 + 105 * 256, 0));
  EXPECT_EQ(result.x_float8, dispatch(float8_world(RowFormat::kFloat8PowerOfTwo))[0].x_float8);
}

/// Combines the small world, whose experts return `rank_0` and `rank_1`, with all weights 1 unless changed.
struct SmallCombine {
  DispatchWorld dispatch_world = small_world();
  CombineWorld world{.num_experts = 3, .num_topk = 2, .hidden = 1, .max_tokens = 2, .is_masked = {}, .ranks = {}};

  SmallCombine(const Floats& rank_0, const Floats& rank_1) {
    const auto& ranks = dispatch_world.ranks;
    world.ranks.push_back(
        {.num_tokens = 2, .x = row_of(rank_0), .topk_idx = ranks[0].topk_idx, .topk_weights = Floats(4, 1.0F)});
    world.ranks.push_back(
        {.num_tokens = 2, .x = row_of(rank_1), .topk_idx = ranks[1].topk_idx, .topk_weights = Floats(4, 1.0F)});
  }
  [[nodiscard]] std::vector<Row> result() const { return combine(world, dispatch(dispatch_world)); }
};

TEST(LowLatencyCombine, SumsWeightedRows) {
  SmallCombine small({1, 99, 99, 99, 2, 3, 4, 99}, {5, 6, 99, 99});
  small.world.ranks[0].topk_weights = {0.5F, 2.0F, 4.0F, 99.0F};
  small.world.ranks[1].topk_weights = {1.0F, 10.0F, 0.25F, 99.0F};
  EXPECT_THAT(floats_of(small.result()[0]), ElementsAre(0.5F * 2 + 2 * 5, 4 * 1));
  EXPECT_THAT(floats_of(small.result()[1]), ElementsAre(6 + 10 * 3, 0.25F * 4));
}

TEST(LowLatencyCombine, GoesInTopkOrderAndFusesAndRoundsOnce) {
  // Token 0 of rank 0: expert 1 (row 4 of rank 0), then expert 2 (row 0 of rank 1).
  const auto token = [](float y0, float w0, float y1, float w1) {
    SmallCombine small({0, 0, 0, 0, y0, 0, 0, 0}, {y1, 0, 0, 0});
    small.world.ranks[0].topk_weights = {w0, w1, 0.0F, 0.0F};
    return small.result()[0][0];
  };
  const float w = 1.0F + 0x1p-20F;
  // Fused: (1 + 2^-7) w - (1 + 2^-7 + 2^-20) is 2^-27, which a rounded product would lose.
  EXPECT_EQ(to_float(token(-1.0F, 1.0F + 0x1p-7F + 0x1p-20F, 1.0F + 0x1p-7F, w)), 0x1p-27F);
  // One rounding: 1 + 2^-8 is a tie that goes to 1, but with 2^-20 more it goes up.
  EXPECT_EQ(to_float(token(1.0F, 1.0F + 0x1p-8F, 1.0F, 0x1p-20F)), 1.0F + 0x1p-7F);
}

TEST(LowLatencyCombine, StartsFromPositiveZeroAndHasOneNan) {
  SmallCombine small({-0.0F, 0, 0, 0, std::numeric_limits<float>::infinity(), 0, 0, 0}, {1, 0, 0, 0});
  small.world.ranks[0].topk_weights = {-0.0F, 1.0F, 1.0F, 0.0F};  // infinity * 0; then -0 * 1
  EXPECT_EQ(small.result()[0][0].bits, kBfloat16Nan);
  EXPECT_EQ(small.result()[0][1].bits, 0x0000);
}

TEST(LowLatencyCombine, GivesZeroWithoutRows) {
  SmallCombine small(Floats(8, 1.0F), Floats(4, 1.0F));
  small.dispatch_world.ranks[0].topk_idx = {-1, -1, -1, -1};
  small.world.ranks[0].topk_idx = {-1, -1, -1, -1};
  EXPECT_THAT(small.result()[0], Each(Bfloat16{0}));
}

TEST(LowLatencyCombine, SkipsMaskedRanks) {
  SmallCombine small({1, 99, 99, 99, 2, 3, 4, 99}, {5, 6, 99, 99});
  small.world.is_masked = {0, 1};
  EXPECT_THAT(floats_of(small.result()[0]), ElementsAre(2, 1));
  EXPECT_THAT(floats_of(small.result()[1]), ElementsAre(0, 0));
  // Masked at the dispatch already, and forgiven since: its rows were not delivered.
  small.world.is_masked = {};
  small.dispatch_world.is_masked = {0, 1};
  EXPECT_THAT(floats_of(small.result()[0]), ElementsAre(2, 1));
  EXPECT_THAT(floats_of(small.result()[1]), ElementsAre(0, 0));
}

TEST(LowLatencyCombine, GivesBothRowsOfADuplicatedExpertTheirOwnWeight) {
  SmallCombine small(Floats(8, 0.0F), {5, 6, 7, 99});
  small.dispatch_world.ranks[1].num_tokens = small.world.ranks[1].num_tokens = 1;
  small.dispatch_world.ranks[1].topk_idx = small.world.ranks[1].topk_idx = {2, 2};
  small.world.ranks[1].topk_weights = {1.0F, 100.0F};
  EXPECT_THAT(floats_of(small.result()[1]), ElementsAre(706 - 2));  // 704 is the nearest bfloat16
}

}  // namespace
}  // namespace crossdock::reference::low_latency
