// The matrices of DeepEP V1's handle, against the queues they describe: every (channel, destination) pair of a sender
// is a queue of the channel's tokens that go there, in token order.
#include "plan/parity.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <random>

namespace crossdock::plan {
namespace {

using ::testing::ElementsAre;

/// Which tokens of each rank go to which rank, and what follows from it one by one.
class World {
 public:
  World(std::vector<std::int64_t> num_tokens, int percent, std::mt19937& random) : num_tokens_(std::move(num_tokens)) {
    std::uniform_int_distribution<int> hundred(1, 100);
    for (const std::int64_t tokens : num_tokens_) {
      auto& flags = flags_.emplace_back(static_cast<std::size_t>(tokens) * num_tokens_.size());
      std::ranges::generate(flags, [&] { return static_cast<std::uint8_t>(hundred(random) <= percent ? 1 : 0); });
    }
  }

  [[nodiscard]] int num_ranks() const { return static_cast<int>(num_tokens_.size()); }
  [[nodiscard]] const std::vector<std::int64_t>& num_tokens() const { return num_tokens_; }
  [[nodiscard]] std::int64_t num_tokens(int rank) const { return num_tokens_[static_cast<std::size_t>(rank)]; }
  [[nodiscard]] bool goes(int src, std::int64_t token, int dst) const {
    return flags_[static_cast<std::size_t>(src)][static_cast<std::size_t>(token * num_ranks() + dst)] != 0;
  }
  [[nodiscard]] RouteTable route(int rank) const {
    return make_route_table(flags_[static_cast<std::size_t>(rank)], num_tokens(rank), num_ranks());
  }
  /// Tokens of src in [begin, end) that go to dst.
  [[nodiscard]] std::int32_t count(int src, int dst, std::int64_t begin, std::int64_t end) const {
    std::int32_t result = 0;
    for (std::int64_t t = begin; t < std::min(end, num_tokens(src)); ++t) result += goes(src, t, dst) ? 1 : 0;
    return result;
  }
  [[nodiscard]] CountMatrix counts() const {
    CountMatrix result(num_ranks());
    for (int src = 0; src < num_ranks(); ++src) {
      for (int dst = 0; dst < num_ranks(); ++dst) result.at(src, dst) = count(src, dst, 0, num_tokens(src));
    }
    return result;
  }
  [[nodiscard]] std::vector<std::int32_t> recv_src_idx(int rank) const {
    std::vector<std::int32_t> result;
    for (int src = 0; src < num_ranks(); ++src) {
      for (std::int64_t t = 0; t < num_tokens(src); ++t) {
        if (goes(src, t, rank)) result.push_back(static_cast<std::int32_t>(t));
      }
    }
    return result;
  }

 private:
  std::vector<std::int64_t> num_tokens_;
  std::vector<std::vector<std::uint8_t>> flags_;
};

std::size_t index(std::int64_t row, std::int64_t columns, std::int64_t column) {
  return static_cast<std::size_t>(row * columns + column);
}

void check_rank_prefix(const World& world) {
  const auto matrix = rank_prefix_matrix(world.counts());
  ASSERT_EQ(matrix.size(), index(world.num_ranks(), world.num_ranks(), 0));
  for (int i = 0; i < world.num_ranks(); ++i) {
    for (int j = 0; j < world.num_ranks(); ++j) {
      std::int32_t sum = 0;
      for (int src = 0; src <= i; ++src) sum += world.count(src, j, 0, world.num_tokens(src));
      EXPECT_EQ(matrix[index(i, world.num_ranks(), j)], sum);
    }
  }
}

void check_channel_prefixes(const World& world, int rank, int num_channels) {
  const auto sent = channel_prefix_matrix(world.route(rank), world.num_ranks(), num_channels);
  const auto received =
      recv_channel_prefix_matrix(world.recv_src_idx(rank), world.counts(), rank, world.num_tokens(), num_channels);
  ASSERT_EQ(sent.size(), index(world.num_ranks(), num_channels, 0));
  ASSERT_EQ(received.size(), sent.size());
  const std::int64_t own = tokens_per_channel(world.num_tokens(rank), num_channels);
  for (int peer = 0; peer < world.num_ranks(); ++peer) {
    const std::int64_t theirs = tokens_per_channel(world.num_tokens(peer), num_channels);
    for (int c = 0; c < num_channels; ++c) {
      EXPECT_EQ(sent[index(peer, num_channels, c)], world.count(rank, peer, 0, (c + 1) * own));
      EXPECT_EQ(received[index(peer, num_channels, c)], world.count(peer, rank, 0, c * theirs));
    }
  }
}

void check_send_head(const World& world, int rank, int num_channels) {
  const auto heads = send_head(world.route(rank), world.num_ranks(), num_channels);
  ASSERT_EQ(heads.size(), index(world.num_tokens(rank), world.num_ranks(), 0));
  const std::int64_t q = tokens_per_channel(world.num_tokens(rank), num_channels);
  for (std::int64_t t = 0; t < world.num_tokens(rank); ++t) {
    for (int dst = 0; dst < world.num_ranks(); ++dst) {
      const std::int32_t place = world.goes(rank, t, dst) ? world.count(rank, dst, t / q * q, t) : -1;
      EXPECT_EQ(heads[index(t, world.num_ranks(), dst)], place);
    }
  }
}

TEST(Parity, SplitsTokensIntoChannels) {
  EXPECT_EQ(tokens_per_channel(0, 10), 0);
  EXPECT_EQ(tokens_per_channel(1, 10), 1);
  EXPECT_EQ(tokens_per_channel(10, 10), 1);
  EXPECT_EQ(tokens_per_channel(11, 10), 2);
  EXPECT_EQ(tokens_per_channel(4096, 12), 342);
}

TEST(Parity, IsRightOnASmallExample) {
  // One rank, five tokens in three channels {0, 1}, {2, 3}, {4}; tokens 0, 2, 3 are sent, to rank 0 of 1.
  const std::vector<std::uint8_t> flags{1, 0, 1, 1, 0};
  const RouteTable route = make_route_table(flags, 5, 1);
  CountMatrix counts(1);
  counts.at(0, 0) = 3;
  EXPECT_THAT(rank_prefix_matrix(counts), ElementsAre(3));
  EXPECT_THAT(channel_prefix_matrix(route, 1, 3), ElementsAre(1, 3, 3));
  EXPECT_THAT(send_head(route, 1, 3), ElementsAre(0, -1, 0, 1, -1));
  const std::vector<std::int32_t> recv_src_idx{0, 2, 3};
  const std::vector<std::int64_t> num_tokens{5};
  EXPECT_THAT(recv_channel_prefix_matrix(recv_src_idx, counts, 0, num_tokens, 3), ElementsAre(0, 1, 3));
}

TEST(Parity, EqualsItsDefinitionOnRandomWorlds) {
  std::mt19937 random(1);
  const auto pick = [&](int low, int high) { return std::uniform_int_distribution<int>(low, high)(random); };
  for (int i = 0; i < 150; ++i) {
    std::vector<std::int64_t> num_tokens(static_cast<std::size_t>(pick(1, 9)));
    std::ranges::generate(num_tokens, [&] { return pick(0, 3) == 0 ? 0 : pick(0, 50); });
    const World world(num_tokens, pick(0, 100), random);
    const int num_channels = pick(1, 24);
    SCOPED_TRACE(::testing::Message() << "world " << i << ", " << num_channels << " channels");
    check_rank_prefix(world);
    for (int rank = 0; rank < world.num_ranks(); ++rank) {
      check_channel_prefixes(world, rank, num_channels);
      check_send_head(world, rank, num_channels);
    }
    if (HasFailure()) return;
  }
}

}  // namespace
}  // namespace crossdock::plan
