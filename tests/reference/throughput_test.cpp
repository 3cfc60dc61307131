// The oracle itself can only be checked by hand.
#include "reference/throughput.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <bit>
#include <limits>

#include "base/bfloat16.hpp"
#include "base/error.hpp"
#include "support/bytes.hpp"

namespace crossdock::reference {
namespace {

using crossdock::testing::bytes_of;
using crossdock::testing::values_of;
using ::testing::ElementsAre;
using ::testing::IsEmpty;

using Ids = std::vector<std::int64_t>;
using Floats = std::vector<float>;
using Bytes = std::vector<std::uint8_t>;

std::vector<std::byte> bfloat16_bytes(const Floats& values) {
  std::vector<Bfloat16> result;
  for (const float value : values) result.push_back(to_bfloat16(value));
  return bytes_of(result);
}

/// Two ranks with experts {0, 1} and {2, 3}; rows of two bytes, one byte of scales.
DispatchWorld small_world() {
  DispatchWorld world{.num_experts = 4, .num_topk = 2, .row_bytes = 2, .scale_row_bytes = 1, .ranks = {}};
  world.ranks.push_back({.num_tokens = 3,
                         .x = bytes_of(Bytes{10, 11, 20, 21, 30, 31}),
                         .scales = bytes_of(Bytes{1, 2, 3}),
                         .topk_idx = Ids{0, 3, 1, 1, -1, -1},
                         .topk_weights = Floats{0.5F, 0.25F, 0.125F, 0.75F, 9.0F, 9.0F},
                         .is_token_in_rank = {}});
  world.ranks.push_back({.num_tokens = 1,
                         .x = bytes_of(Bytes{40, 41}),
                         .scales = bytes_of(Bytes{4}),
                         .topk_idx = Ids{2, -1},
                         .topk_weights = Floats{1.0F, 9.0F},
                         .is_token_in_rank = {}});
  return world;
}

TEST(ReferenceDispatch, OrdersRowsBySourceRankAndToken) {
  const auto result = dispatch(small_world());
  ASSERT_EQ(result.size(), 2U);
  EXPECT_EQ(result[0].num_recv_tokens, 2);
  EXPECT_EQ(result[0].recv_x, bytes_of(Bytes{10, 11, 20, 21}));
  EXPECT_EQ(result[0].recv_scales, bytes_of(Bytes{1, 2}));
  EXPECT_THAT(result[0].recv_src_rank, ElementsAre(0, 0));
  EXPECT_THAT(result[0].recv_src_idx, ElementsAre(0, 1));
  EXPECT_EQ(result[1].num_recv_tokens, 2);
  EXPECT_EQ(result[1].recv_x, bytes_of(Bytes{10, 11, 40, 41}));
  EXPECT_EQ(result[1].recv_scales, bytes_of(Bytes{1, 4}));
  EXPECT_THAT(result[1].recv_src_rank, ElementsAre(0, 1));
  EXPECT_THAT(result[1].recv_src_idx, ElementsAre(0, 0));
}

TEST(ReferenceDispatch, RewritesIdsAndWeightsForTheReceiver) {
  const auto result = dispatch(small_world());
  EXPECT_THAT(result[0].recv_topk_idx, ElementsAre(0, -1, 1, 1));
  EXPECT_THAT(result[0].recv_topk_weights, ElementsAre(0.5F, 0.0F, 0.125F, 0.75F));
  EXPECT_THAT(result[1].recv_topk_idx, ElementsAre(-1, 1, 0, -1));
  EXPECT_THAT(result[1].recv_topk_weights, ElementsAre(0.0F, 0.25F, 1.0F, 0.0F));
}

TEST(ReferenceDispatch, CountsEverySelectionOfAnExpert) {
  const auto result = dispatch(small_world());
  EXPECT_THAT(result[0].num_tokens_per_expert, ElementsAre(1, 2));
  EXPECT_THAT(result[1].num_tokens_per_expert, ElementsAre(1, 1));
}

TEST(ReferenceDispatch, TellsTheSenderWhereItsTokensWent) {
  const auto result = dispatch(small_world());
  EXPECT_THAT(result[0].is_token_in_rank, ElementsAre(1, 1, 1, 0, 0, 0));
  EXPECT_THAT(result[1].is_token_in_rank, ElementsAre(0, 1));
}

TEST(ReferenceDispatch, WithoutTopkFollowsTheMembershipTable) {
  DispatchWorld world = small_world();
  world.num_topk = 0;
  world.ranks[0].is_token_in_rank = {0, 1, 0, 0, 1, 1};
  world.ranks[1].is_token_in_rank = {1, 0};
  const auto result = dispatch(world);
  EXPECT_EQ(result[0].recv_x, bytes_of(Bytes{30, 31, 40, 41}));
  EXPECT_EQ(result[1].recv_x, bytes_of(Bytes{10, 11, 30, 31}));
  EXPECT_THAT(result[0].recv_topk_idx, IsEmpty());
  EXPECT_THAT(result[0].num_tokens_per_expert, IsEmpty());
}

TEST(ReferenceDispatch, GivesTheFirstRanksTheExpertsThatAreLeftOver) {
  DispatchWorld world{.num_experts = 5, .num_topk = 5, .row_bytes = 0, .scale_row_bytes = 0, .ranks = {}};
  world.ranks.resize(3);
  world.ranks[1] = {.num_tokens = 1,
                    .x = {},
                    .scales = {},
                    .topk_idx = Ids{0, 1, 2, 3, 4},
                    .topk_weights = Floats{1, 2, 3, 4, 5},
                    .is_token_in_rank = {}};
  const auto result = dispatch(world);
  EXPECT_THAT(result[0].recv_topk_idx, ElementsAre(0, 1, -1, -1, -1));
  EXPECT_THAT(result[1].recv_topk_idx, ElementsAre(-1, -1, 0, 1, -1));
  EXPECT_THAT(result[2].recv_topk_idx, ElementsAre(-1, -1, -1, -1, 0));
  EXPECT_THAT(result[2].recv_topk_weights, ElementsAre(0, 0, 0, 0, 5));
  EXPECT_THAT(result[2].num_tokens_per_expert, ElementsAre(1));
}

TEST(ReferenceDispatch, RefusesAnIdThatIsNoExpert) {
  DispatchWorld world = small_world();
  world.ranks[1].topk_idx[0] = 4;
  EXPECT_THROW((void)dispatch(world), Error);
  world.ranks[1].topk_idx[0] = -2;
  EXPECT_THROW((void)dispatch(world), Error);
}

DispatchWorld expanded_world() {
  DispatchWorld world = small_world();
  world.expand = true;
  world.expert_alignment = 2;
  return world;
}

TEST(ReferenceExpandedDispatch, GroupsRowsByExpertFromAlignedStarts) {
  DispatchWorld world = expanded_world();
  world.ranks[1].topk_idx = {2, 3};
  const auto result = dispatch(world);
  ASSERT_EQ(result.size(), 2U);
  EXPECT_EQ(result[0].num_recv_tokens, 3);
  EXPECT_EQ(result[0].recv_x, bytes_of(Bytes{10, 11, 0, 0, 20, 21, 20, 21}));
  EXPECT_EQ(result[0].recv_scales, bytes_of(Bytes{1, 0, 2, 2}));
  EXPECT_THAT(result[0].recv_topk_weights, ElementsAre(0.5F, 0.0F, 0.125F, 0.75F));
  EXPECT_THAT(result[0].recv_topk_idx, IsEmpty());
  EXPECT_THAT(result[0].recv_src_rank, ElementsAre(0, -1, 0, 0));
  EXPECT_THAT(result[0].recv_src_idx, ElementsAre(0, -1, 1, 1));
  EXPECT_THAT(result[0].recv_column, ElementsAre(0, -1, 0, 1));
  EXPECT_THAT(result[0].group_ends, ElementsAre(1, 4));
  EXPECT_THAT(result[0].num_tokens_per_expert, ElementsAre(1, 2));
  EXPECT_EQ(result[1].num_recv_tokens, 3);
  EXPECT_EQ(result[1].recv_x, bytes_of(Bytes{40, 41, 0, 0, 10, 11, 40, 41}));
  EXPECT_THAT(result[1].recv_topk_weights, ElementsAre(1.0F, 0.0F, 0.25F, 9.0F));
  EXPECT_THAT(result[1].recv_src_rank, ElementsAre(1, -1, 0, 1));
  EXPECT_THAT(result[1].recv_column, ElementsAre(0, -1, 1, 1));
  EXPECT_THAT(result[1].group_ends, ElementsAre(1, 4));
}

TEST(ReferenceExpandedDispatch, GivesAnExpertThatNobodySelectsNoRows) {
  DispatchWorld world = expanded_world();
  world.ranks[0].topk_idx = {1, -1, -1, -1, -1, -1};
  world.ranks[1].topk_idx = {-1, -1};
  const auto result = dispatch(world);
  EXPECT_EQ(result[0].recv_x, bytes_of(Bytes{10, 11, 0, 0}));
  EXPECT_THAT(result[0].group_ends, ElementsAre(0, 1));
  EXPECT_THAT(result[1].recv_x, IsEmpty());
  EXPECT_THAT(result[1].group_ends, ElementsAre(0, 0));
}

TEST(ReferenceExpandedDispatch, NeedsTopk) {
  DispatchWorld world = expanded_world();
  world.num_topk = 0;
  EXPECT_THROW((void)dispatch(world), Error);
}

/// One token on rank 0 that selects experts 1, 2, 0 and 2 of two ranks, and what they make of it, by column.
std::vector<CombinedRank> combine_expanded(const Floats& values) {
  DispatchWorld routing{.num_experts = 4, .num_topk = 4, .row_bytes = 0, .scale_row_bytes = 0, .ranks = {}};
  routing.expand = true;
  routing.ranks.resize(2);
  routing.ranks[0] = {.num_tokens = 1,
                      .x = {},
                      .scales = {},
                      .topk_idx = Ids{1, 2, 0, 2},
                      .topk_weights = Floats{1, 2, 3, 4},
                      .is_token_in_rank = {}};
  const auto dispatched = dispatch(routing);
  CombineWorld world{.dtype = DataType::kFloat32, .hidden = 1, .num_topk = 4, .ranks = {}};
  world.ranks.resize(2);
  world.ranks[0] = {.num_tokens = 1,
                    .x = bytes_of(Floats{values[2], values[0]}),  // expert 0, expert 1
                    .topk_weights = dispatched[0].recv_topk_weights,
                    .bias_0 = {},
                    .bias_1 = {}};
  world.ranks[1].x = bytes_of(Floats{values[1], values[3]});
  world.ranks[1].topk_weights = dispatched[1].recv_topk_weights;
  return combine(world, dispatched);
}

TEST(ReferenceExpandedCombine, AddsByRankAndThenByColumn) {
  // 2^24 + 1 is not a float32: where the 1 survives, the large values came before it and had cancelled.
  EXPECT_THAT(values_of<float>(combine_expanded({0x1p24F, 1.0F, -0x1p24F, 0.0F})[0].combined_x), ElementsAre(1.0F));
  EXPECT_THAT(values_of<float>(combine_expanded({0x1p24F, -0x1p24F, 1.0F, 0.0F})[0].combined_x), ElementsAre(0.0F));
  EXPECT_THAT(values_of<float>(combine_expanded({1.0F, -0x1p24F, 0x1p24F, 0.0F})[0].combined_x), ElementsAre(0.0F));
  EXPECT_THAT(values_of<float>(combine_expanded({0.0F, 0x1p24F, 0.0F, 1.0F})[0].combined_x), ElementsAre(0x1p24F));
}

TEST(ReferenceExpandedCombine, ReturnsEachWeightToItsColumn) {
  EXPECT_THAT(combine_expanded({0, 0, 0, 0})[0].combined_topk_weights, ElementsAre(1, 2, 3, 4));
}

/// One token on rank 0, sent to all of `values`' ranks, each of which returns one float of `hidden` 1.
struct OneToken {
  std::vector<DispatchedRank> dispatched;
  CombineWorld world;

  OneToken(DataType dtype, const Floats& values) : world{.dtype = dtype, .hidden = 1, .num_topk = 0, .ranks = {}} {
    for (const float value : values) {
      dispatched.push_back({.num_recv_tokens = 1,
                            .recv_x = {},
                            .recv_scales = {},
                            .recv_topk_idx = {},
                            .recv_topk_weights = {},
                            .recv_src_rank = {0},
                            .recv_src_idx = {0},
                            .recv_column = {},
                            .group_ends = {},
                            .num_tokens_per_expert = {},
                            .is_token_in_rank = {}});
      CombineRank& rank = world.ranks.emplace_back();
      rank.x = dtype == DataType::kBfloat16 ? bfloat16_bytes({value}) : bytes_of(Floats{value});
    }
    world.ranks[0].num_tokens = 1;
  }

  [[nodiscard]] std::vector<std::byte> result() const { return combine(world, dispatched)[0].combined_x; }
};

TEST(ReferenceCombine, AddsInAscendingRank) {
  // 2^24 + 1 is not a float32: the 1 is lost unless the large values cancel first.
  EXPECT_EQ(OneToken(DataType::kFloat32, {0x1p24F, 1.0F, -0x1p24F}).result(), bytes_of(Floats{0.0F}));
  EXPECT_EQ(OneToken(DataType::kFloat32, {0x1p24F, -0x1p24F, 1.0F}).result(), bytes_of(Floats{1.0F}));
}

TEST(ReferenceCombine, AddsBiasesBeforeTheRanks) {
  OneToken token(DataType::kFloat32, {0x1p24F, -0x1p24F});
  token.world.ranks[0].bias_0 = bytes_of(Floats{1.0F});
  EXPECT_EQ(token.result(), bytes_of(Floats{0.0F}));
  token.world.ranks[0].bias_1 = bytes_of(Floats{1.0F});  // 2^24 + 2 is a float32
  EXPECT_EQ(token.result(), bytes_of(Floats{2.0F}));
}

TEST(ReferenceCombine, RoundsOnce) {
  // A bfloat16 at 1 has steps of 2^-7. Rounded after each addition, both small values would vanish.
  EXPECT_EQ(OneToken(DataType::kBfloat16, {1.0F, 0x1p-8F, 0x1p-9F}).result(), bfloat16_bytes({1.0F + 0x1p-7F}));
}

TEST(ReferenceCombine, MakesEveryNanTheSame) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  EXPECT_EQ(OneToken(DataType::kFloat32, {kInfinity, -kInfinity}).result(),
            bytes_of(std::vector<std::uint32_t>{kFloat32Nan}));
  EXPECT_EQ(OneToken(DataType::kFloat32, {std::bit_cast<float>(0xFFC12345U)}).result(),
            bytes_of(std::vector<std::uint32_t>{kFloat32Nan}));
  EXPECT_EQ(OneToken(DataType::kBfloat16, {kInfinity, -kInfinity}).result(),
            bytes_of(std::vector<std::uint16_t>{kBfloat16Nan}));
}

TEST(ReferenceCombine, MakesNansOfWeightsTheSameToo) {
  OneToken token(DataType::kFloat32, {0.0F});
  token.world.num_topk = 1;
  token.world.ranks[0].topk_weights = {std::bit_cast<float>(0xFFC12345U)};
  const auto weights = combine(token.world, token.dispatched)[0].combined_topk_weights;
  EXPECT_EQ(bytes_of(weights), bytes_of(std::vector<std::uint32_t>{kFloat32Nan}));
}

TEST(ReferenceCombine, StartsFromPositiveZero) {
  EXPECT_EQ(OneToken(DataType::kFloat32, {-0.0F}).result(), bytes_of(std::vector<std::uint32_t>{0}));
}

TEST(ReferenceCombine, RefusesOtherTypes) {
  OneToken token(DataType::kFloat32, {1.0F});
  token.world.dtype = DataType::kInt32;
  EXPECT_THROW((void)token.result(), Error);
}

TEST(ReferenceCombine, ReturnsRowsAndWeightsToTheirTokens) {
  const auto dispatched = dispatch(small_world());
  CombineWorld world{.dtype = DataType::kFloat32, .hidden = 2, .num_topk = 2, .ranks = {}};
  world.ranks.push_back({.num_tokens = 3,
                         .x = bytes_of(Floats{1, 2, 3, 4}),
                         .topk_weights = dispatched[0].recv_topk_weights,
                         .bias_0 = bytes_of(Floats{0, 0, 0, 0, 100, 200}),
                         .bias_1 = {}});
  world.ranks.push_back({.num_tokens = 1,
                         .x = bytes_of(Floats{10, 20, 30, 40}),
                         .topk_weights = dispatched[1].recv_topk_weights,
                         .bias_0 = {},
                         .bias_1 = {}});
  const auto result = combine(world, dispatched);
  EXPECT_THAT(values_of<float>(result[0].combined_x), ElementsAre(11, 22, 3, 4, 100, 200));
  EXPECT_THAT(values_of<float>(result[1].combined_x), ElementsAre(30, 40));
  EXPECT_THAT(result[0].combined_topk_weights, ElementsAre(0.5F, 0.25F, 0.125F, 0.75F, 0.0F, 0.0F));
  EXPECT_THAT(result[1].combined_topk_weights, ElementsAre(1.0F, 0.0F));
}

}  // namespace
}  // namespace crossdock::reference
