#include "plan/route.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <random>

namespace crossdock::plan {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

RouteTable brute_force(const std::vector<std::uint8_t>& flags, std::int64_t num_tokens, int num_ranks) {
  RouteTable result{.begin = {0}, .rank = {}, .row = {}, .column = {}};
  std::vector<std::int32_t> rows(static_cast<std::size_t>(num_ranks), 0);
  for (std::int64_t t = 0; t < num_tokens; ++t) {
    for (int rank = 0; rank < num_ranks; ++rank) {
      if (flags[static_cast<std::size_t>(t * num_ranks + rank)] == 0) continue;
      result.rank.push_back(rank);
      result.row.push_back(rows[static_cast<std::size_t>(rank)]++);
    }
    result.begin.push_back(static_cast<std::int32_t>(result.rank.size()));
  }
  return result;
}

TEST(RouteTable, ListsDestinationsAndRows) {
  const std::vector<std::uint8_t> flags{1, 0, 1, 0, 0, 0, 0, 1, 1};
  const RouteTable table = make_route_table(flags, 3, 3);
  EXPECT_EQ(table.num_tokens(), 3);
  EXPECT_THAT(table.begin, ElementsAre(0, 2, 2, 4));
  EXPECT_THAT(table.rank, ElementsAre(0, 2, 1, 2));
  EXPECT_THAT(table.row, ElementsAre(0, 0, 0, 1));
}

TEST(RouteTable, IsEmptyWithoutTokens) {
  const RouteTable table = make_route_table({}, 0, 4);
  EXPECT_EQ(table.num_tokens(), 0);
  EXPECT_THAT(table.begin, ElementsAre(0));
  EXPECT_THAT(table.rank, IsEmpty());
}

TEST(RouteTable, EqualsItsDefinitionOnRandomInput) {
  std::mt19937 random(1);
  const auto pick = [&](int low, int high) { return std::uniform_int_distribution<int>(low, high)(random); };
  for (int i = 0; i < 500; ++i) {
    const int num_ranks = pick(1, 140);
    const int num_tokens = pick(0, 60);
    const int percent = pick(0, 100);
    std::vector<std::uint8_t> flags(static_cast<std::size_t>(num_tokens * num_ranks));
    // Any value but 0 counts as set.
    std::ranges::generate(flags, [&] { return static_cast<std::uint8_t>(pick(1, 100) <= percent ? pick(1, 255) : 0); });
    const RouteTable table = make_route_table(flags, num_tokens, num_ranks);
    const RouteTable expected = brute_force(flags, num_tokens, num_ranks);
    EXPECT_EQ(table.begin, expected.begin) << num_tokens << " tokens, " << num_ranks << " ranks";
    EXPECT_EQ(table.rank, expected.rank) << num_tokens << " tokens, " << num_ranks << " ranks";
    EXPECT_EQ(table.row, expected.row) << num_tokens << " tokens, " << num_ranks << " ranks";
  }
}

TEST(CountMatrix, AddsUpBlocksInSourceOrder) {
  CountMatrix counts(3);
  std::ranges::copy(std::vector<std::int32_t>{1, 2, 3}, counts.row(0).begin());
  std::ranges::copy(std::vector<std::int32_t>{10, 20, 30}, counts.row(1).begin());
  std::ranges::copy(std::vector<std::int32_t>{100, 200, 300}, counts.row(2).begin());
  EXPECT_EQ(counts.at(1, 2), 30);
  EXPECT_EQ(counts.row_begin(0, 1), 0);
  EXPECT_EQ(counts.row_begin(1, 1), 2);
  EXPECT_EQ(counts.row_begin(2, 1), 22);
  EXPECT_EQ(counts.num_recv(1), 222);
  EXPECT_EQ(counts.num_recv(2), 333);
}

TEST(CountMatrix, DoesNotOverflowWhereItsSumsWould) {
  CountMatrix counts(2);
  counts.at(0, 0) = 2'000'000'000;
  counts.at(1, 0) = 2'000'000'000;
  EXPECT_EQ(counts.num_recv(0), 4'000'000'000);
}

}  // namespace
}  // namespace crossdock::plan
