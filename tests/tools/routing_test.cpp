#include "crossdock/routing.hpp"

#include <algorithm>
#include <filesystem>
#include <numeric>
#include <set>

#include <gtest/gtest.h>

#include "base/error.hpp"
#include "crossdock/data_directory.hpp"

namespace crossdock::tool {
namespace {

TEST(UniformRouting, GivesDistinctExpertsAndWeightsOfOne) {
  const auto routing = make_uniform_routing({3, 50, 4, 7}, 5);
  std::set<int> seen;
  for (int rank = 0; rank < 3; ++rank) {
    for (std::int64_t token = 0; token < 50; ++token) {
      const auto ids = routing.ids_of(rank, token);
      const std::set<int> distinct(ids.begin(), ids.end());
      EXPECT_EQ(distinct.size(), 4U);
      EXPECT_GE(*distinct.begin(), 0);
      EXPECT_LT(*distinct.rbegin(), 7);
      seen.insert(distinct.begin(), distinct.end());
    }
    const auto weights = routing.weights_of(rank);
    EXPECT_NEAR(std::accumulate(weights.begin(), weights.end(), 0.0), 50.0, 1e-4);
  }
  EXPECT_EQ(seen.size(), 7U);
}

TEST(UniformRouting, FollowsFromTheSeed) {
  const RoutingShape shape{2, 20, 2, 9};
  EXPECT_EQ(make_uniform_routing(shape, 1).topk_idx, make_uniform_routing(shape, 1).topk_idx);
  EXPECT_NE(make_uniform_routing(shape, 1).topk_idx, make_uniform_routing(shape, 2).topk_idx);
  EXPECT_THROW((void)make_uniform_routing({1, 1, 3, 2}, 1), Error);
}

TEST(Routing, CountsEachRankOnceForAToken) {
  Routing routing{{2, 2, 3, 4}, {0, 1, 3, -1, -1, -1, 2, 2, 3, 0, -1, 0}, std::vector<float>(12)};
  EXPECT_EQ(count_rows(routing, TokenRows::kRanks), (std::vector<std::int64_t>{1, 1, 1, 1}));
  std::vector<int> destinations;
  find_destinations(routing.ids_of(0, 0), plan::ExpertMap(4, 2), TokenRows::kRanks, destinations);
  EXPECT_EQ(destinations, (std::vector<int>{0, 1}));
}

TEST(Routing, CountsEachSelectionOfAnExpandedDispatch) {
  Routing routing{{2, 2, 3, 4}, {0, 1, 3, -1, -1, -1, 2, 2, 3, 0, -1, 0}, std::vector<float>(12)};
  EXPECT_EQ(count_rows(routing, TokenRows::kSelections), (std::vector<std::int64_t>{2, 1, 2, 3}));
  EXPECT_EQ(count_aligned_rows(routing, 1, 0), 4);
  EXPECT_EQ(count_aligned_rows(routing, 8, 0), 16);
  EXPECT_EQ(count_aligned_rows(routing, 2, 1), 4);
  std::vector<int> destinations;
  find_destinations(routing.ids_of(1, 0), plan::ExpertMap(4, 2), TokenRows::kSelections, destinations);
  EXPECT_EQ(destinations, (std::vector<int>{1, 1, 1}));
}

TEST(TraceRouting, TakesTheFirstRanksAndTokensOfALayer) {
  const auto path = find_data_file("trace_e256_k8", "");
  const auto whole = load_trace_routing(path, {16, 4096, std::nullopt, std::nullopt, 1});
  const auto part = load_trace_routing(path, {3, 10, 8, 256, 1});
  EXPECT_EQ(whole.shape.num_experts, 256);
  EXPECT_EQ(whole.shape.num_topk, 8);
  for (int rank = 0; rank < 3; ++rank) {
    const auto expected = whole.ids_of(rank).first(80);
    EXPECT_TRUE(std::equal(expected.begin(), expected.end(), part.ids_of(rank).begin()));
    EXPECT_NEAR(part.weights_of(rank)[0] + part.weights_of(rank)[7],
                whole.weights_of(rank)[0] + whole.weights_of(rank)[7], 1e-9);
  }
  for (std::int64_t token = 0; token < 4096; ++token) {
    const auto weights = whole.weights_of(5).subspan(static_cast<std::size_t>(token) * 8, 8);
    EXPECT_NEAR(std::accumulate(weights.begin(), weights.end(), 0.0), 1.0, 0.05);
  }
  EXPECT_NE(load_trace_routing(path, {1, 10, 8, 256, 0}).topk_idx,
            load_trace_routing(path, {1, 10, 8, 256, 1}).topk_idx);
}

TEST(TraceRouting, RefusesAnotherKindOfFile) {
  EXPECT_THROW((void)load_trace_routing(find_data_file("moe_layer", ""), {1, 1, std::nullopt, std::nullopt, 0}), Error);
}

}  // namespace
}  // namespace crossdock::tool
