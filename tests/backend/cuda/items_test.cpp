// Pieces of work: each is done once, no block has much more to do than another, and small grids suffice for few.
#include <gtest/gtest.h>

#include <algorithm>
#include <string>

#include "backend/cuda/device_probe.hpp"
#include "backend/cuda/items_probe.hpp"
#include "support/draw.hpp"

namespace crossdock::testing {
namespace {

constexpr int kWarpThreads = 32;

std::string text_of(const ItemCase& shape) {
  return std::to_string(shape.num_tokens) + " tokens x " + std::to_string(shape.pieces) + " pieces, " +
         std::to_string(shape.blocks) + " blocks of " + std::to_string(shape.threads) + " threads";
}

void expect_dealt_out(const ItemCase& shape) {
  const ItemVisits visits = count_visits(shape);
  const auto is_once = [](int count) { return count == 1; };
  EXPECT_TRUE(std::ranges::all_of(visits.of_piece, is_once)) << text_of(shape);
  const int at_once = shape.blocks * (shape.threads / kWarpThreads);
  const int rounds = std::max(1, (shape.num_tokens * shape.pieces + at_once - 1) / at_once);
  // In the last round some blocks may find nothing: all others have filled theirs.
  const int most = *std::ranges::max_element(visits.by_block);
  EXPECT_LE(most, (shape.num_tokens * shape.pieces + shape.blocks - 1) / shape.blocks + rounds) << text_of(shape);
}

TEST(Items, EachIsDoneOnceAndBlocksAreAsBusy) {
  if (const std::string why_not = why_no_cuda_device(); !why_not.empty()) GTEST_SKIP() << why_not;
  expect_dealt_out({.num_tokens = 0, .pieces = 3, .blocks = 2, .threads = 64});
  expect_dealt_out({.num_tokens = 5, .pieces = 0, .blocks = 2, .threads = 64});
  expect_dealt_out({.num_tokens = 1, .pieces = 1, .blocks = 7, .threads = 1024});
  expect_dealt_out({.num_tokens = 1280, .pieces = 5, .blocks = 15, .threads = 1024});
  Draw draw(11);
  constexpr int kShapes = 60;
  for (int i = 0; i < kShapes; ++i) {
    ItemCase shape{};
    shape.num_tokens = static_cast<int>(draw.between(0, draw.chance(50) ? 20 : 400));
    shape.pieces = static_cast<int>(draw.between(1, 9));
    shape.blocks = static_cast<int>(draw.between(1, 17));
    shape.threads = static_cast<int>(draw.between(1, 32)) * kWarpThreads;
    expect_dealt_out(shape);
  }
}

TEST(Items, GridsAreAsLargeAsTheWorkNeeds) {
  Draw draw(12);
  constexpr int kShapes = 1000;
  for (int i = 0; i < kShapes; ++i) {
    const std::int64_t pieces = draw.between(0, draw.chance(50) ? 200 : 100'000);
    const auto most_blocks = static_cast<int>(draw.between(0, 40));
    const int most_threads = static_cast<int>(draw.between(1, 4)) * 256;
    const Shape shape = grid_shape_of(pieces, most_blocks, most_threads);
    const std::string text = std::to_string(pieces) + " pieces, at most " + std::to_string(most_blocks) +
                             " blocks of " + std::to_string(most_threads) + " threads";
    EXPECT_GE(shape.blocks, 1) << text;
    EXPECT_LE(shape.blocks, std::max(most_blocks, 1)) << text;
    EXPECT_LE(shape.threads, most_threads) << text;
    EXPECT_EQ(shape.threads % 256, 0) << text;
    const std::int64_t warps = static_cast<std::int64_t>(shape.blocks) * shape.threads / kWarpThreads;
    const bool is_largest = shape.blocks == std::max(most_blocks, 1) && shape.threads == most_threads;
    EXPECT_TRUE(warps >= pieces || is_largest) << text;
    // One with fewer threads, or with the fewest but a block less, would not do.
    const int fewer = shape.threads > 256 ? shape.blocks * 8 : shape.blocks > 1 ? 8 : 0;
    EXPECT_TRUE(fewer == 0 || warps - fewer < pieces) << text;
  }
}

}  // namespace
}  // namespace crossdock::testing
