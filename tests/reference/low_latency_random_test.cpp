// The oracle on random worlds, against a second implementation that is built the other way round: it lists all rows of
// the world and sorts them.
#include "reference/low_latency.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <tuple>

#include "codec/float8.hpp"
#include "codec/logfmt.hpp"
#include "support/draw.hpp"

namespace crossdock::reference::low_latency {
namespace {

using crossdock::testing::Draw;

using Ids = std::vector<std::int64_t>;
using Floats = std::vector<float>;
using Row = std::vector<Bfloat16>;

Floats floats_of(const Row& row) {
  Floats values;
  for (const Bfloat16 value : row) values.push_back(to_float(value));
  return values;
}

std::int64_t range(std::int64_t begin, std::int64_t count) { return begin * (std::int64_t{1} << 32) + count; }

/// (owner, number within the owner) of each expert, dealt out rank by rank.
std::vector<std::pair<int, std::int64_t>> places_of_experts(int num_experts, int num_ranks) {
  std::vector<std::pair<int, std::int64_t>> result;
  for (int rank = 0; rank < num_ranks; ++rank) {
    const int share = (num_experts + num_ranks - 1 - rank) / num_ranks;
    for (int i = 0; i < share; ++i) result.emplace_back(rank, i);
  }
  return result;
}

/// All rows that a world delivers as (expert, source rank, token, column): sorted, they lie as in the experts' tensors.
using Selection = std::tuple<std::int64_t, int, std::int64_t, int>;

std::vector<Selection> sorted_selections(const DispatchWorld& world) {
  const auto experts = places_of_experts(world.num_experts, static_cast<int>(world.ranks.size()));
  const auto is_out = [&](int rank) { return world.is_masked[static_cast<std::size_t>(rank)] != 0; };
  std::vector<Selection> result;
  for (int k = 0; k < world.num_topk; ++k) {
    for (int rank = 0; rank < static_cast<int>(world.ranks.size()); ++rank) {
      const Ids& ids = world.ranks[static_cast<std::size_t>(rank)].topk_idx;
      for (std::size_t i = static_cast<std::size_t>(k); i < ids.size(); i += static_cast<std::size_t>(world.num_topk)) {
        if (ids[i] < 0 || is_out(rank) || is_out(experts[static_cast<std::size_t>(ids[i])].first)) continue;
        result.emplace_back(ids[i], rank, static_cast<std::int64_t>(i) / world.num_topk, k);
      }
    }
  }
  std::ranges::sort(result);
  return result;
}

DispatchWorld random_world(Draw& draw) {
  DispatchWorld world;
  const auto num_ranks = static_cast<std::size_t>(draw.between(1, 5));
  world.num_experts = static_cast<int>(draw.between(1, 9));
  world.num_topk = static_cast<int>(draw.between(1, 4));
  world.hidden = draw.one_of<std::int64_t>({1, 40, 128, 140, 520, 700});
  world.max_tokens = draw.between(8, 12);
  world.format =
      draw.one_of({RowFormat::kBfloat16, RowFormat::kFloat8, RowFormat::kFloat8PowerOfTwo, RowFormat::kFloat8Ue8m0});
  for (std::size_t r = 0; r < num_ranks; ++r) {
    DispatchRank& rank = world.ranks.emplace_back();
    world.is_masked.push_back(draw.chance(10) ? 1 : 0);
    // With top-k 4 and two tokens even equal experts everywhere leave room.
    const bool is_repetitive = draw.chance(40);
    rank.num_tokens = is_repetitive ? draw.between(0, 2) : draw.between(0, world.max_tokens);
    for (std::int64_t t = 0; t < rank.num_tokens; ++t) {
      std::vector<std::int64_t> used;
      for (int k = 0; k < world.num_topk; ++k) {
        std::int64_t id = draw.between(-1, world.num_experts - 1);
        if (!is_repetitive && std::ranges::find(used, id) != used.end()) id = -1;
        used.push_back(id);
        rank.topk_idx.push_back(id);
      }
    }
    for (std::int64_t i = 0; i < rank.num_tokens * world.hidden; ++i) {
      rank.x.push_back(
          to_bfloat16(static_cast<float>(std::ldexp(draw.fraction() - 0.5, static_cast<int>(draw.between(-20, 20))))));
    }
  }
  return world;
}

/// Position of a selection among all rows of its expert, in sorted order.
std::map<Selection, std::int64_t> rows_of(const std::vector<Selection>& sorted) {
  std::map<Selection, std::int64_t> result;
  std::map<std::int64_t, std::int64_t> next;
  for (const Selection& selection : sorted) result[selection] = next[std::get<0>(selection)]++;
  return result;
}

template <typename Value>
std::vector<Value> slice(const std::vector<Value>& values, std::int64_t begin, std::int64_t count) {
  return {values.begin() + begin, values.begin() + begin + count};
}

void expect_float8_row(const DispatchedRank& out, const DispatchWorld& world, std::int64_t local, std::int64_t row,
                       const Row& x) {
  const std::int64_t places = static_cast<std::int64_t>(world.ranks.size()) * world.max_tokens;
  const std::int64_t groups = (world.hidden + 127) / 128;
  const std::int64_t packs = (groups + 3) / 4;
  std::vector<std::uint8_t> values(x.size());
  Floats scales(static_cast<std::size_t>(groups));
  codec::quantize_row(
      x, world.format == RowFormat::kFloat8 ? codec::ScaleRounding::kNone : codec::ScaleRounding::kPowerOfTwo, values,
      scales);
  EXPECT_EQ(slice(out.x_float8, (local * places + row) * world.hidden, world.hidden), values);
  for (std::int64_t g = 0; g < groups; ++g) {
    const float scale = scales[static_cast<std::size_t>(g)];
    if (world.format != RowFormat::kFloat8Ue8m0) {
      EXPECT_EQ(out.scales[static_cast<std::size_t>(local * groups * places + row + g * places)], scale);
    } else {
      const auto pack = static_cast<std::uint32_t>(
          out.packed_scales[static_cast<std::size_t>(local * packs * places + row + g / 4 * places)]);
      EXPECT_EQ(std::ldexp(1.0F, static_cast<int>((pack >> (g % 4 * 8)) & 0xFFU) - 127), scale);
    }
  }
}

void expect_dispatched(const DispatchWorld& world, const std::vector<DispatchedRank>& result) {
  const auto num_ranks = static_cast<int>(world.ranks.size());
  const std::int64_t places = num_ranks * world.max_tokens;
  const auto experts = places_of_experts(world.num_experts, num_ranks);
  const auto sorted = sorted_selections(world);
  for (const auto& [selection, row] : rows_of(sorted)) {
    const auto [id, source, token, k] = selection;
    const auto [owner, local] = experts[static_cast<std::size_t>(id)];
    const DispatchedRank& out = result[static_cast<std::size_t>(owner)];
    EXPECT_EQ(out.src_info[static_cast<std::size_t>(local * places + row)], token);
    const Row x = slice(world.ranks[static_cast<std::size_t>(source)].x, token * world.hidden, world.hidden);
    if (world.format == RowFormat::kBfloat16) {
      EXPECT_EQ(slice(out.x, (local * places + row) * world.hidden, world.hidden), x);
    } else {
      expect_float8_row(out, world, local, row, x);
    }
  }
  for (std::int64_t id = 0; id < world.num_experts; ++id) {
    const auto [owner, local] = experts[static_cast<std::size_t>(id)];
    const DispatchedRank& out = result[static_cast<std::size_t>(owner)];
    const auto first = std::ranges::lower_bound(sorted, Selection{id, 0, 0, 0});
    EXPECT_EQ(out.count[static_cast<std::size_t>(local)],
              std::ranges::lower_bound(sorted, Selection{id + 1, 0, 0, 0}) - first);
    for (int source = 0; source < num_ranks; ++source) {
      const auto begin = std::ranges::lower_bound(sorted, Selection{id, source, 0, 0});
      const auto end = std::ranges::lower_bound(sorted, Selection{id, source + 1, 0, 0});
      EXPECT_EQ(out.layout_range[static_cast<std::size_t>(local * num_ranks + source)],
                range(begin - first, end - begin));
    }
  }
}

TEST(LowLatencyDispatch, EqualsTheSortedListOfAllRows) {
  for (std::uint64_t seed = 0; seed < 200; ++seed) {
    SCOPED_TRACE(seed);
    Draw draw(seed);
    const DispatchWorld world = random_world(draw);
    const auto result = dispatch(world);
    expect_dispatched(world, result);
    if (::testing::Test::HasFailure()) return;
  }
}

CombineWorld random_combine(Draw& draw, const DispatchWorld& world) {
  CombineWorld result{.num_experts = world.num_experts,
                      .num_topk = world.num_topk,
                      .hidden = world.hidden,
                      .max_tokens = world.max_tokens,
                      .format = draw.one_of({WireFormat::kBfloat16, WireFormat::kLogFmt}),
                      .is_masked = {},
                      .ranks = {}};
  const auto num_ranks = static_cast<int>(world.ranks.size());
  const auto experts = places_of_experts(world.num_experts, num_ranks);
  for (int r = 0; r < num_ranks; ++r) {
    const DispatchRank& source = world.ranks[static_cast<std::size_t>(r)];
    CombineRank& rank = result.ranks.emplace_back();
    rank.num_tokens = source.num_tokens;
    rank.topk_idx = source.topk_idx;
    for (std::size_t i = 0; i < source.topk_idx.size(); ++i) {
      rank.topk_weights.push_back(static_cast<float>(draw.fraction()));
    }
    const auto num_local = std::ranges::count_if(experts, [r](const auto& place) { return place.first == r; });
    for (std::int64_t i = 0; i < num_local * num_ranks * world.max_tokens * world.hidden; ++i) {
      rank.x.push_back(to_bfloat16(static_cast<float>(draw.fraction() - 0.5)));
    }
    result.is_masked.push_back(draw.chance(15) ? 1 : 0);
  }
  return result;
}

/// Element by element: looks each row of the token up in the sorted list of the world.
float expected_element(const CombineWorld& world, const std::map<Selection, std::int64_t>& rows, int rank,
                       std::int64_t token, std::int64_t h) {
  const auto num_ranks = static_cast<int>(world.ranks.size());
  const auto experts = places_of_experts(world.num_experts, num_ranks);
  const CombineRank& own = world.ranks[static_cast<std::size_t>(rank)];
  float sum = 0.0F;
  for (int k = 0; k < world.num_topk; ++k) {
    const auto at = static_cast<std::size_t>(token * world.num_topk + k);
    const auto found = rows.find({own.topk_idx[at], rank, token, k});
    if (found == rows.end()) continue;
    const auto [owner, local] = experts[static_cast<std::size_t>(own.topk_idx[at])];
    if (world.is_masked[static_cast<std::size_t>(owner)] != 0) continue;
    const std::int64_t row = local * num_ranks * world.max_tokens + found->second;
    const Row y = slice(world.ranks[static_cast<std::size_t>(owner)].x, row * world.hidden, world.hidden);
    Floats values = floats_of(y);
    if (world.format == WireFormat::kLogFmt) {
      std::vector<std::byte> wire(static_cast<std::size_t>(codec::logfmt_max_bytes(world.hidden)));
      codec::encode_logfmt(y, wire);
      codec::decode_logfmt(wire, values);
    }
    sum = std::fma(own.topk_weights[at], values[static_cast<std::size_t>(h)], sum);
  }
  return sum;
}

TEST(LowLatencyCombine, EqualsTheSumOverTheSortedList) {
  for (std::uint64_t seed = 1000; seed < 1150; ++seed) {
    SCOPED_TRACE(seed);
    Draw draw(seed);
    DispatchWorld dispatch_world = random_world(draw);
    dispatch_world.format = RowFormat::kBfloat16;
    const CombineWorld world = random_combine(draw, dispatch_world);
    const auto result = combine(world, dispatch(dispatch_world));
    const auto rows = rows_of(sorted_selections(dispatch_world));
    for (int rank = 0; rank < static_cast<int>(world.ranks.size()); ++rank) {
      const Row& combined = result[static_cast<std::size_t>(rank)];
      const bool is_masked = world.is_masked[static_cast<std::size_t>(rank)] != 0;
      ASSERT_EQ(static_cast<std::int64_t>(combined.size()),
                world.ranks[static_cast<std::size_t>(rank)].num_tokens * world.hidden);
      for (std::int64_t i = 0; i < static_cast<std::int64_t>(combined.size()); i += 1 + world.hidden / 7) {
        const float sum = is_masked ? 0.0F : expected_element(world, rows, rank, i / world.hidden, i % world.hidden);
        ASSERT_EQ(combined[static_cast<std::size_t>(i)], to_bfloat16(sum)) << "rank " << rank << " element " << i;
      }
    }
  }
}

}  // namespace
}  // namespace crossdock::reference::low_latency
