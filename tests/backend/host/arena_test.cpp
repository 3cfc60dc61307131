#include "backend/host/arena.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <random>
#include <thread>
#include <vector>

namespace crossdock::host {
namespace {

constexpr std::size_t kOffset = 4096;
constexpr std::size_t kBytes = 64 * Arena::kSlabAlignment;

struct ArenaTest : ::testing::Test {
  std::shared_ptr<SharedMemory> memory = std::make_shared<SharedMemory>(SharedMemory::create(kOffset + kBytes, false));
  std::shared_ptr<Arena> arena = std::make_shared<Arena>(memory, kOffset, kBytes);

  [[nodiscard]] std::optional<Tensor> allocate(std::int64_t bytes) const {
    return arena->try_allocate(DataType::kUint8, std::array{bytes});
  }
};

TEST_F(ArenaTest, SlabsAreAlignedAndApart) {
  const auto first = allocate(1);
  const auto second = allocate(129);
  const auto third = allocate(128);
  ASSERT_TRUE(first && second && third);
  EXPECT_EQ(first->data(), memory->data() + kOffset);
  EXPECT_EQ(second->data_as<std::byte>(), first->data_as<std::byte>() + 128);
  EXPECT_EQ(third->data_as<std::byte>(), second->data_as<std::byte>() + 256);
  EXPECT_EQ(arena->bytes_free(), kBytes - 512);
}

TEST_F(ArenaTest, FreedNeighboursMergeInEveryOrder) {
  std::array<int, 4> order{0, 1, 2, 3};
  do {
    std::array<std::optional<Tensor>, 4> slabs;
    for (auto& slab : slabs) slab = allocate(kBytes / 4);
    EXPECT_EQ(arena->bytes_free(), 0U);
    EXPECT_FALSE(allocate(1).has_value());
    for (const int i : order) slabs[static_cast<std::size_t>(i)].reset();
    ASSERT_EQ(arena->largest_free(), kBytes);
    ASSERT_EQ(arena->bytes_free(), kBytes);
  } while (std::next_permutation(order.begin(), order.end()));
}

TEST_F(ArenaTest, FreePiecesThatDoNotTouchStayApart) {
  auto first = allocate(128);
  const auto second = allocate(128);
  auto third = allocate(128);
  const auto rest = allocate(kBytes - 384);
  ASSERT_TRUE(rest);
  first.reset();
  third.reset();
  EXPECT_EQ(arena->bytes_free(), 256U);
  EXPECT_EQ(arena->largest_free(), 128U);
  EXPECT_FALSE(allocate(256).has_value());
  EXPECT_TRUE(allocate(128).has_value());
}

TEST_F(ArenaTest, EmptyTensorsTakeNoRoom) {
  const auto all = allocate(kBytes);
  ASSERT_TRUE(all);
  const auto empty = arena->try_allocate(DataType::kFloat32, std::array<std::int64_t, 2>{0, INT64_MAX});
  ASSERT_TRUE(empty);
  EXPECT_EQ(empty->num_elements(), 0);
  EXPECT_TRUE(arena->offset_of(empty->data(), 0).has_value());
}

TEST_F(ArenaTest, SizesBeyondAllMemoryDoNotWrapAround) {
  for (const std::int64_t extent : {std::int64_t{1} << 62U, std::int64_t{1} << 61U, INT64_MAX}) {
    EXPECT_FALSE(arena->try_allocate(DataType::kInt64, std::array{extent, std::int64_t{4}}).has_value()) << extent;
    EXPECT_FALSE(arena->try_allocate(DataType::kUint8, std::array{extent}).has_value()) << extent;
  }
  EXPECT_EQ(arena->bytes_free(), kBytes);
}

TEST_F(ArenaTest, OffsetsAreOfTheWindowAndEndWithTheArena) {
  const std::byte* begin = memory->data() + kOffset;
  EXPECT_EQ(arena->offset_of(begin, kBytes), kOffset);
  EXPECT_EQ(arena->offset_of(begin + kBytes, 0), kOffset + kBytes);
  EXPECT_EQ(arena->offset_of(begin + 100, 28), kOffset + 100);
  EXPECT_FALSE(arena->offset_of(begin, kBytes + 1).has_value());
  EXPECT_FALSE(arena->offset_of(begin - 1, 1).has_value());
  EXPECT_FALSE(arena->offset_of(begin + kBytes, 1).has_value());
  EXPECT_FALSE(arena->offset_of(nullptr, 0).has_value());
  int elsewhere = 0;
  EXPECT_FALSE(arena->offset_of(&elsewhere, sizeof(elsewhere)).has_value());
}

TEST_F(ArenaTest, SlabsKeepTheMemoryAlive) {
  const auto slab = allocate(256);
  arena.reset();
  memory.reset();
  std::memset(slab->data(), 1, 256);
  const Tensor copy = *slab;
  EXPECT_EQ(copy.data_as<std::uint8_t>()[255], 1);
}

TEST_F(ArenaTest, ThreadsShareIt) {
  std::vector<std::thread> threads;
  for (std::uint8_t id = 1; id <= 4; ++id) {
    threads.emplace_back([this, id] {
      std::mt19937 random(id);
      std::vector<Tensor> held;
      for (int i = 0; i < 2000; ++i) {
        if (auto slab = allocate(static_cast<std::int64_t>(random() % 400))) {
          if (slab->num_bytes() > 0) std::memset(slab->data(), id, slab->num_bytes());
          held.push_back(*slab);
        }
        if (held.size() < 4) continue;
        const Tensor& oldest = held.front();
        for (std::size_t b = 0; b < oldest.num_bytes(); ++b) ASSERT_EQ(oldest.data_as<std::uint8_t>()[b], id);
        held.erase(held.begin());
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(arena->largest_free(), kBytes);
}

}  // namespace
}  // namespace crossdock::host
