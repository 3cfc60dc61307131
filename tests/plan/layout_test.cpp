#include "plan/layout.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <set>
#include <vector>

#include "base/error.hpp"

namespace crossdock::plan {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

struct Layout {
  std::vector<std::int32_t> per_rank;
  std::vector<std::int32_t> per_node;
  std::vector<std::int32_t> per_expert;
  std::vector<std::uint8_t> membership;

  friend bool operator==(const Layout&, const Layout&) = default;
};

struct Case {
  std::int64_t num_tokens = 0;
  int num_topk = 1;
  int num_experts = 1;
  Topology topology;
};

/// A layout of the right sizes, full of rubbish: compute_layout must overwrite everything.
Layout make_layout(const Case& c) {
  const auto ranks = static_cast<std::size_t>(c.topology.num_ranks);
  return {std::vector<std::int32_t>(ranks, 77),
          std::vector<std::int32_t>(static_cast<std::size_t>(c.topology.num_nodes()), 77),
          std::vector<std::int32_t>(static_cast<std::size_t>(c.num_experts), 77),
          std::vector<std::uint8_t>(static_cast<std::size_t>(c.num_tokens) * ranks, 77)};
}

template <typename Id>
Layout compute(const Case& c, const std::vector<Id>& ids) {
  Layout result = make_layout(c);
  compute_layout({ids.data(), c.num_tokens, c.num_topk}, ExpertMap(c.num_experts, c.topology.num_ranks), c.topology,
                 {result.per_rank, result.per_node, result.per_expert, result.membership});
  return result;
}

/// The definition, token by token with sets.
Layout brute_force(const Case& c, const std::vector<std::int64_t>& ids) {
  const ExpertMap experts(c.num_experts, c.topology.num_ranks);
  Layout result = make_layout(c);
  std::ranges::fill(result.per_rank, 0);
  std::ranges::fill(result.per_node, 0);
  std::ranges::fill(result.per_expert, 0);
  std::ranges::fill(result.membership, std::uint8_t{0});
  for (std::int64_t t = 0; t < c.num_tokens; ++t) {
    std::set<int> ranks;
    std::set<int> nodes;
    for (int k = 0; k < c.num_topk; ++k) {
      const std::int64_t id = ids[static_cast<std::size_t>(t * c.num_topk + k)];
      if (id == -1) continue;
      ++result.per_expert[static_cast<std::size_t>(id)];
      ranks.insert(experts.owner(static_cast<int>(id)));
      nodes.insert(c.topology.node_of(experts.owner(static_cast<int>(id))));
    }
    for (const int rank : ranks) {
      ++result.per_rank[static_cast<std::size_t>(rank)];
      result.membership[static_cast<std::size_t>(t * c.topology.num_ranks + rank)] = 1;
    }
    for (const int node : nodes) ++result.per_node[static_cast<std::size_t>(node)];
  }
  return result;
}

TEST(Layout, CountsTokensOncePerRankAndSelectionsPerExpert) {
  // Ranks own {0, 1}, {2, 3}, {4, 5}, {6, 7}; nodes are ranks {0, 1} and {2, 3}.
  const Case c{.num_tokens = 3, .num_topk = 3, .num_experts = 8, .topology = {4, 2}};
  const Layout layout = compute<std::int64_t>(c, {0, 1, 2, 7, 7, -1, -1, -1, -1});
  EXPECT_THAT(layout.per_rank, ElementsAre(1, 1, 0, 1));
  EXPECT_THAT(layout.per_node, ElementsAre(1, 1));
  EXPECT_THAT(layout.per_expert, ElementsAre(1, 1, 1, 0, 0, 0, 0, 2));
  EXPECT_THAT(layout.membership, ElementsAre(1, 1, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0));
}

TEST(Layout, IsZeroWithoutTokens) {
  const Case c{.num_tokens = 0, .num_topk = 8, .num_experts = 3, .topology = {2, 2}};
  const Layout layout = compute<std::int32_t>(c, {});
  EXPECT_THAT(layout.per_rank, ElementsAre(0, 0));
  EXPECT_THAT(layout.per_node, ElementsAre(0));
  EXPECT_THAT(layout.per_expert, ElementsAre(0, 0, 0));
}

TEST(Layout, LeavesNodesOutIfTheyAreNotWanted) {
  const Case c{.num_tokens = 1, .num_topk = 1, .num_experts = 2, .topology = {2, 1}};
  const std::vector<std::int64_t> ids{1};
  Layout layout = make_layout(c);
  compute_layout({ids.data(), 1, 1}, ExpertMap(2, 2), c.topology,
                 {layout.per_rank, {}, layout.per_expert, layout.membership});
  EXPECT_THAT(layout.per_rank, ElementsAre(0, 1));
}

TEST(Layout, NamesTheIdThatIsNoExpert) {
  const Case c{.num_tokens = 2, .num_topk = 2, .num_experts = 4, .topology = {2, 2}};
  const auto message_for = [&](auto id) {
    try {
      compute<decltype(id)>(c, {0, 1, 2, id});
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kInvalidArgument);
      return std::string(error.what());
    }
    return std::string("no error");
  };
  EXPECT_THAT(message_for(std::int64_t{4}), HasSubstr("topk_idx[1][1] is 4; allowed are -1 and 0 to 3"));
  EXPECT_THAT(message_for(std::int64_t{-2}), HasSubstr("topk_idx[1][1] is -2"));
  EXPECT_THAT(message_for(std::int64_t{1} << 32), HasSubstr("topk_idx[1][1] is 4294967296"));
  EXPECT_THAT(message_for(std::int32_t{-2147483647}), HasSubstr("topk_idx[1][1] is -2147483647"));
}

void expect_same_as_brute_force(const Case& c, std::mt19937& random) {
  std::uniform_int_distribution<std::int64_t> id(-1, c.num_experts - 1);
  std::vector<std::int64_t> ids(static_cast<std::size_t>(c.num_tokens * c.num_topk));
  std::ranges::generate(ids, [&] { return id(random); });
  const Layout expected = brute_force(c, ids);
  const std::vector<std::int32_t> narrow_ids(ids.begin(), ids.end());
  const auto text = ::testing::Message() << c.num_tokens << " tokens, top-" << c.num_topk << ", " << c.num_experts
                                         << " experts, " << c.topology.num_ranks << " ranks";
  EXPECT_TRUE(compute(c, ids) == expected) << text;
  EXPECT_TRUE(compute(c, narrow_ids) == expected) << text;
}

TEST(Layout, EqualsItsDefinitionOnRandomInput) {
  std::mt19937 random(1);
  const auto pick = [&](int low, int high) { return std::uniform_int_distribution<int>(low, high)(random); };
  for (int i = 0; i < 400; ++i) {
    const int num_ranks = pick(1, 70);
    expect_same_as_brute_force({.num_tokens = pick(0, 300),
                                .num_topk = pick(1, 20),
                                .num_experts = pick(1, 300),
                                .topology = {num_ranks, pick(1, num_ranks)}},
                               random);
  }
}

TEST(Layout, ServesMoreExpertsThanItsTableHolds) {
  std::mt19937 random(2);
  expect_same_as_brute_force({.num_tokens = 500, .num_topk = 8, .num_experts = 4096, .topology = {7, 7}}, random);
  expect_same_as_brute_force({.num_tokens = 500, .num_topk = 8, .num_experts = 4097, .topology = {7, 7}}, random);
  expect_same_as_brute_force({.num_tokens = 500, .num_topk = 8, .num_experts = 100'000, .topology = {64, 8}}, random);
}

}  // namespace
}  // namespace crossdock::plan
