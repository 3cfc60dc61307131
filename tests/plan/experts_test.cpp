#include "plan/experts.hpp"

#include <gtest/gtest.h>

namespace crossdock::plan {
namespace {

TEST(ExpertMap, DividesEvenlyAsDeepEpDoes) {
  const ExpertMap map(256, 8);
  for (int expert = 0; expert < 256; ++expert) EXPECT_EQ(map.owner(expert), expert / 32);
  EXPECT_EQ(map.begin(3), 96);
  EXPECT_EQ(map.count(3), 32);
}

TEST(ExpertMap, GivesTheFirstRanksOneMore) {
  const ExpertMap map(10, 4);  // 3, 3, 2, 2
  EXPECT_EQ(map.count(0), 3);
  EXPECT_EQ(map.count(1), 3);
  EXPECT_EQ(map.count(2), 2);
  EXPECT_EQ(map.count(3), 2);
  EXPECT_EQ(map.owner(5), 1);
  EXPECT_EQ(map.owner(6), 2);
}

TEST(ExpertMap, LeavesTheLastRanksWithNothingIfThereAreTooFewExperts) {
  const ExpertMap map(2, 5);
  EXPECT_EQ(map.owner(0), 0);
  EXPECT_EQ(map.owner(1), 1);
  EXPECT_EQ(map.count(1), 1);
  EXPECT_EQ(map.count(2), 0);
  EXPECT_EQ(map.begin(4), 2);
}

/// Ranks own adjoining ranges that cover all experts, none more than one expert larger than another.
TEST(ExpertMap, CoversEveryExpertOnce) {
  for (int num_ranks = 1; num_ranks <= 17; ++num_ranks) {
    for (int num_experts = 1; num_experts <= 70; ++num_experts) {
      const ExpertMap map(num_experts, num_ranks);
      int next = 0;
      for (int rank = 0; rank < num_ranks; ++rank) {
        EXPECT_EQ(map.begin(rank), next);
        EXPECT_LE(map.count(0) - map.count(rank), 1);
        EXPECT_GE(map.count(0), map.count(rank));
        for (; next < map.begin(rank) + map.count(rank); ++next) {
          EXPECT_EQ(map.owner(next), rank) << num_experts << " experts, " << num_ranks << " ranks, expert " << next;
        }
      }
      EXPECT_EQ(next, num_experts);
    }
  }
}

}  // namespace
}  // namespace crossdock::plan
