#include "plan/expert_groups.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <tuple>
#include <vector>

namespace crossdock::plan {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

TEST(ExpertGroups, StartAtMultiplesOfTheAlignment) {
  // Two ranks with experts {0, 1, 2} and {3, 4}.
  const ExpertGroups groups({3, 0, 1, 4, 2,  //
                             2, 0, 0, 0, 1},
                            2, ExpertMap(5, 2), 4);
  EXPECT_EQ(groups.row_begin(0, 0), 0);
  EXPECT_EQ(groups.row_begin(1, 0), 3);
  EXPECT_EQ(groups.row_begin(2, 0), 5);
  EXPECT_EQ(groups.padded_end(0), 8);
  EXPECT_EQ(groups.row_begin(0, 1), 8);
  EXPECT_EQ(groups.row_begin(2, 1), 8);
  EXPECT_EQ(groups.row_begin(0, 2), 8);
  EXPECT_EQ(groups.row_begin(2, 2), 9);
  EXPECT_EQ(groups.num_rows(0), 12);
  EXPECT_EQ(groups.row_begin(0, 3), 0);
  EXPECT_EQ(groups.row_begin(0, 4), 4);
  EXPECT_EQ(groups.row_begin(1, 4), 6);
  EXPECT_EQ(groups.num_rows(1), 8);
  EXPECT_EQ(groups.num_sent(0, 0), 4);
  EXPECT_EQ(groups.num_sent(1, 1), 1);
}

TEST(ExpertGroups, OfARankWithoutExpertsAreNone) {
  const ExpertGroups groups({1, 1, 1}, 3, ExpertMap(1, 3), 2);
  EXPECT_EQ(groups.num_rows(0), 4);
  EXPECT_EQ(groups.num_rows(1), 0);
  EXPECT_EQ(groups.num_rows(2), 0);
}

TEST(ExpertGroups, MayExceedWhatRowNumbersHold) {
  const ExpertGroups groups({1, 1}, 1, ExpertMap(2, 1), 2'000'000'000);
  EXPECT_EQ(groups.num_rows(0), 4'000'000'000);
}

TEST(ExpandedRoute, OrdersSelectionsByRankAndColumn) {
  const ExpertGroups groups({0, 1, 0, 0,  //
                             1, 2, 2, 1},
                            2, ExpertMap(4, 2), 2);
  const std::vector<std::int32_t> ids{3, 1, 2, 1, -1, -1, -1, -1, 2, -1, 0, -1};
  const RouteTable route = make_expanded_route({ids.data(), 3, 4}, groups, 1);
  EXPECT_EQ(route.num_tokens(), 3);
  EXPECT_THAT(route.begin, ElementsAre(0, 4, 4, 6));
  EXPECT_THAT(route.rank, ElementsAre(0, 0, 1, 1, 0, 1));
  EXPECT_THAT(route.column, ElementsAre(1, 3, 0, 2, 2, 0));
  EXPECT_THAT(route.row, ElementsAre(3, 4, 2, 0, 0, 1));
}

TEST(ExpandedRoute, IsEmptyWithoutTokens) {
  const ExpertGroups groups({0, 0}, 1, ExpertMap(2, 1), 8);
  const RouteTable route = make_expanded_route({static_cast<const std::int64_t*>(nullptr), 0, 3}, groups, 0);
  EXPECT_THAT(route.begin, ElementsAre(0));
  EXPECT_THAT(route.rank, IsEmpty());
}

TEST(ExpandedRoute, GivesEachRowOfARandomWorldOnce) {
  std::mt19937 random(1);
  const auto pick = [&](int low, int high) { return std::uniform_int_distribution<int>(low, high)(random); };
  for (int i = 0; i < 200; ++i) {
    const int num_ranks = pick(1, 5);
    const int num_topk = pick(1, 6);
    const ExpertMap experts(pick(1, 12), num_ranks);
    const auto num_experts = static_cast<std::size_t>(experts.num_experts());
    std::vector<std::vector<std::int64_t>> ids(static_cast<std::size_t>(num_ranks));
    std::vector<std::int32_t> selections(static_cast<std::size_t>(num_ranks) * num_experts);
    for (std::size_t rank = 0; rank < ids.size(); ++rank) {
      ids[rank].resize(static_cast<std::size_t>(pick(0, 10)) * static_cast<std::size_t>(num_topk));
      for (std::int64_t& id : ids[rank]) {
        id = pick(-1, experts.num_experts() - 1);
        if (id >= 0) ++selections[rank * num_experts + static_cast<std::size_t>(id)];
      }
    }
    const ExpertGroups groups(selections, num_ranks, experts, pick(1, 4));
    // (receiver, expert) of a row, in the order of (source, token, column): rows of a group must ascend from its start.
    std::vector<std::int64_t> next(num_experts);
    for (std::size_t e = 0; e < num_experts; ++e) next[e] = groups.row_begin(0, static_cast<int>(e));
    for (int rank = 0; rank < num_ranks; ++rank) {
      const auto& mine = ids[static_cast<std::size_t>(rank)];
      const auto num_tokens = static_cast<std::int64_t>(mine.size()) / num_topk;
      const RouteTable route = make_expanded_route({mine.data(), num_tokens, num_topk}, groups, rank);
      for (std::size_t t = 0; t < static_cast<std::size_t>(num_tokens); ++t) {
        std::vector<std::pair<std::int32_t, std::int32_t>> order;
        std::vector<std::tuple<std::int32_t, std::int32_t, std::int32_t>> by_column;
        for (auto entry = static_cast<std::size_t>(route.begin[t]);
             entry < static_cast<std::size_t>(route.begin[t + 1]); ++entry) {
          order.emplace_back(route.rank[entry], route.column[entry]);
          by_column.emplace_back(route.column[entry], route.rank[entry], route.row[entry]);
        }
        EXPECT_TRUE(std::ranges::is_sorted(order)) << "world " << i;
        std::ranges::sort(by_column);
        auto entry = by_column.begin();
        for (std::int32_t k = 0; k < num_topk; ++k) {
          const std::int64_t id = mine[t * static_cast<std::size_t>(num_topk) + static_cast<std::size_t>(k)];
          if (id < 0) continue;
          ASSERT_NE(entry, by_column.end()) << "world " << i;
          EXPECT_EQ(*entry++, std::tuple(k, experts.owner(static_cast<int>(id)),
                                         static_cast<std::int32_t>(next[static_cast<std::size_t>(id)]++)));
        }
        EXPECT_EQ(entry, by_column.end()) << "world " << i;
      }
    }
  }
}

}  // namespace
}  // namespace crossdock::plan
