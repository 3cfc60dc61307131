#include "support/random_world.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstring>

#include "support/draw.hpp"

namespace crossdock::testing {

namespace {

/// How the ids of a world are drawn.
struct Routing {
  enum class Kind : std::uint8_t { kUniform, kSkewed, kOneExpert, kDistinct } kind = Kind::kUniform;
  int percent_unselected = 0;
};

std::int64_t draw_hidden(Draw& draw, bool is_large) {
  const std::int64_t limit = is_large ? 128 : 700;
  return draw.chance(40) ? 64 * draw.between(1, limit / 64) : draw.between(1, limit);
}

MatrixShape draw_x(Draw& draw, bool is_large) {
  const auto dtype = draw.one_of({DataType::kBfloat16, DataType::kBfloat16, DataType::kFloat32, DataType::kFloat8E4m3,
                                  DataType::kUint8, DataType::kInt64});
  return {dtype, draw_hidden(draw, is_large)};
}

/// FP8 rows come with scales, others rarely do.
MatrixShape draw_scales(Draw& draw, const MatrixShape& x) {
  if (!draw.chance(x.dtype == DataType::kFloat8E4m3 ? 90 : 10)) return {DataType::kFloat32, 0};
  const auto dtype = draw.one_of({DataType::kFloat32, DataType::kFloat32, DataType::kInt32, DataType::kUint8});
  return {dtype, draw.chance(50) ? (x.columns + 127) / 128 : draw.between(1, 20)};
}

std::int64_t draw_num_tokens(Draw& draw, int kind, std::int64_t limit) {
  if (kind == 0) return 0;
  if (kind == 1) return limit;
  return draw.chance(20) ? 0 : draw.between(0, limit);
}

int draw_num_topk(Draw& draw) {
  if (draw.chance(50)) return static_cast<int>(draw.between(1, 8));
  return static_cast<int>(draw.between(1, 64));
}

int draw_num_experts(Draw& draw, int num_ranks) {
  if (draw.chance(15)) return static_cast<int>(draw.between(1, num_ranks));
  if (draw.chance(30)) return num_ranks * static_cast<int>(draw.between(1, std::max(1, 300 / num_ranks)));
  return static_cast<int>(draw.between(1, 300));
}

std::vector<std::int64_t> draw_ids(Draw& draw, const Routing& routing, int num_topk, int num_experts) {
  std::vector<std::int64_t> ids;
  for (int k = 0; k < num_topk; ++k) {
    double place = draw.fraction();
    if (routing.kind == Routing::Kind::kSkewed) place = place * place * place * place;
    if (routing.kind == Routing::Kind::kOneExpert) place = 0.7;
    auto id = static_cast<std::int64_t>(std::floor(place * num_experts));
    // As a router chooses them, while there are experts left.
    const auto is_taken = [&] { return std::ranges::find(ids, id) != ids.end(); };
    while (routing.kind == Routing::Kind::kDistinct && k < num_experts && is_taken()) id = (id + 1) % num_experts;
    ids.push_back(id);
  }
  for (std::int64_t& id : ids) {
    if (draw.chance(routing.percent_unselected)) id = -1;
  }
  return ids;
}

/// Mostly numbers of like magnitude with every mantissa bit in use, so that the order of a sum shows; else any bits:
/// infinities, every kind of NaN, subnormals.
std::vector<std::byte> draw_values(Draw& draw, DataType dtype, std::size_t count, bool any_bits) {
  std::vector<std::byte> result = draw.bytes(count * size_of(dtype));
  if (any_bits || (dtype != DataType::kFloat32 && dtype != DataType::kBfloat16)) return result;
  constexpr std::uint8_t kExponentTop = 0x3F;  // with the sign and seven more bits of the exponent in the top byte
  for (std::size_t i = 0; i < count; ++i) {
    std::byte& top = result[(i + 1) * size_of(dtype) - 1];
    top = (top & std::byte{0x80}) | static_cast<std::byte>(kExponentTop + draw.between(-2, 2));
  }
  return result;
}

std::vector<float> draw_floats(Draw& draw, std::size_t count, bool any_bits) {
  std::vector<float> result(count);
  const auto bytes = draw_values(draw, DataType::kFloat32, count, any_bits);
  if (count > 0) std::memcpy(result.data(), bytes.data(), bytes.size());
  return result;
}

void draw_ranks(Draw& draw, reference::DispatchWorld& world, const MatrixShape& x, const MatrixShape& scales,
                bool is_large) {
  const Routing routing{draw.one_of({Routing::Kind::kUniform, Routing::Kind::kUniform, Routing::Kind::kSkewed,
                                     Routing::Kind::kOneExpert, Routing::Kind::kDistinct}),
                        draw.one_of({0, 0, 10, 50, 100})};
  const int token_kind = draw.chance(3) ? 0 : draw.chance(20) ? 1 : 2;
  const std::int64_t token_limit = draw.between(1, is_large ? 10 : 40);
  const bool any_bits = draw.chance(20);
  for (reference::DispatchRank& rank : world.ranks) {
    rank.num_tokens = draw_num_tokens(draw, token_kind, token_limit);
    const auto tokens = static_cast<std::size_t>(rank.num_tokens);
    rank.x = draw_values(draw, x.dtype, tokens * static_cast<std::size_t>(x.columns), any_bits);
    rank.scales = draw_values(draw, scales.dtype, tokens * static_cast<std::size_t>(scales.columns), any_bits);
    for (std::size_t t = 0; t < tokens; ++t) {
      std::ranges::copy(draw_ids(draw, routing, world.num_topk, world.num_experts), std::back_inserter(rank.topk_idx));
    }
    rank.topk_weights = draw_floats(draw, rank.topk_idx.size(), any_bits);
  }
}

/// Makes it a world of expanded dispatches, if what they receive is not too much for the arenas.
void expand(RandomWorld& world, bool is_large) {
  reference::DispatchWorld expanded = world.routing;
  expanded.expand = true;
  expanded.expert_alignment = world.expert_alignment;
  std::vector<reference::DispatchedRank> expected = reference::dispatch(expanded);
  constexpr std::size_t kMostRows = 400;
  constexpr std::size_t kMostLargeWorldRows = 600;
  const std::size_t most_rows = is_large ? kMostLargeWorldRows : kMostRows;
  const auto is_small = [&](const reference::DispatchedRank& rank) { return rank.recv_src_rank.size() <= most_rows; };
  if (!std::ranges::all_of(expected, is_small)) return;
  world.expand = true;
  world.expected = std::move(expected);
}

/// The same rows without top-k, each token to where it went with it. Expanded dispatches look at ids.
reference::DispatchWorld without_topk(const RandomWorld& world) {
  reference::DispatchWorld result = world.routing;
  result.expand = world.expand;
  result.expert_alignment = world.expert_alignment;
  if (world.expand) return result;
  result.num_topk = 0;
  for (std::size_t rank = 0; rank < result.ranks.size(); ++rank) {
    result.ranks[rank].topk_idx.clear();
    result.ranks[rank].topk_weights.clear();
    result.ranks[rank].is_token_in_rank = world.routed[rank].is_token_in_rank;
  }
  return result;
}

CachedPart draw_cached(Draw& draw, const RandomWorld& world, bool is_large) {
  CachedPart part;
  part.x = draw_x(draw, is_large);
  part.scales = draw_scales(draw, part.x);
  part.world = without_topk(world);
  part.world.row_bytes = part.x.row_bytes();
  part.world.scale_row_bytes = part.scales.row_bytes();
  for (reference::DispatchRank& rank : part.world.ranks) {
    rank.x = draw.bytes(static_cast<std::size_t>(rank.num_tokens) * part.world.row_bytes);
    rank.scales = draw.bytes(static_cast<std::size_t>(rank.num_tokens) * part.world.scale_row_bytes);
  }
  part.expected = reference::dispatch(part.world);
  return part;
}

MatrixShape draw_combine_x(Draw& draw, const RandomWorld& world, bool is_large, CombineSource source) {
  if (source == CombineSource::kReceived) return world.x;
  const auto dtype = draw.one_of({DataType::kBfloat16, DataType::kBfloat16, DataType::kFloat32});
  return {dtype, draw.chance(80) ? world.x.columns : draw_hidden(draw, is_large)};
}

CombinePart draw_combine(Draw& draw, const RandomWorld& world, bool is_large) {
  CombinePart part;
  const bool can_return = world.x.dtype == DataType::kBfloat16 || world.x.dtype == DataType::kFloat32;
  part.source = draw.one_of({CombineSource::kCombineInput, CombineSource::kElsewhere,
                             can_return ? CombineSource::kReceived : CombineSource::kCombineInput});
  part.x = draw_combine_x(draw, world, is_large, part.source);
  part.world.dtype = part.x.dtype;
  part.world.hidden = part.x.columns;
  part.world.num_topk = world.with_topk && draw.chance(60) ? world.routing.num_topk : 0;
  const std::int64_t num_biases = draw.chance(50) ? 0 : draw.between(1, 2);
  const bool any_bits = draw.chance(20);
  const auto draw_rows = [&](std::int64_t rows) {
    return draw_values(draw, part.x.dtype, static_cast<std::size_t>(rows * part.x.columns), any_bits);
  };
  for (std::size_t r = 0; r < world.routed.size(); ++r) {
    reference::CombineRank& rank = part.world.ranks.emplace_back();
    rank.num_tokens = world.routing.ranks[r].num_tokens;
    const auto rows = static_cast<std::int64_t>(world.expected[r].recv_src_rank.size());
    rank.x = part.source == CombineSource::kReceived ? world.expected[r].recv_x : draw_rows(rows);
    if (num_biases >= 1) rank.bias_0 = draw_rows(rank.num_tokens);
    if (num_biases >= 2) rank.bias_1 = draw_rows(rank.num_tokens);
    const std::int64_t columns = world.expand ? std::min(part.world.num_topk, 1) : part.world.num_topk;
    rank.topk_weights = draw_floats(draw, static_cast<std::size_t>(rows * columns), any_bits);
  }
  part.expected = reference::combine(part.world, world.expected);
  return part;
}

}  // namespace

std::int64_t RandomWorld::num_recv_rows(int rank) const {
  return num_worst_tokens.value_or(
      static_cast<std::int64_t>(expected[static_cast<std::size_t>(rank)].recv_src_rank.size()));
}

std::string RandomWorld::description() const {
  std::string text =
      fmt::format("seed {}: {} ranks, {} experts, x {} x {}, {} scales, top-{}{}", seed, num_ranks(), num_experts,
                  name_of(x.dtype), x.columns, scales.columns, routing.num_topk, with_topk ? "" : " (not dispatched)");
  if (expand) text += fmt::format(", expanded with alignment {}", expert_alignment);
  if (num_worst_tokens) text += fmt::format(", worst case {}", *num_worst_tokens);
  if (cached) text += fmt::format(", cached x {} x {}", name_of(cached->x.dtype), cached->x.columns);
  if (combine) text += fmt::format(", combine x {} x {}", name_of(combine->x.dtype), combine->x.columns);
  return text;
}

int num_ranks_of(std::uint64_t seed) {
  Draw draw(seed);
  if (draw.chance(3)) return draw.one_of({11, 16, 23, 32, 48, 64});
  return static_cast<int>(draw.between(1, kMaxSmallWorldRanks));
}

RandomWorld make_random_world(std::uint64_t seed) {
  Draw draw(seed + 0x9E3779B97F4A7C15U);  // other choices than those of num_ranks_of
  const int num_ranks = num_ranks_of(seed);
  const bool is_large = num_ranks > kMaxSmallWorldRanks;
  RandomWorld world;
  world.seed = seed;
  world.x = draw_x(draw, is_large);
  world.scales = draw_scales(draw, world.x);
  world.id_dtype = draw.chance(70) ? DataType::kInt64 : DataType::kInt32;
  world.with_topk = draw.chance(85);
  world.num_experts = draw_num_experts(draw, num_ranks);
  world.expert_alignment = static_cast<int>(draw.one_of({1, 1, 2, 16, 128, 7}));
  world.num_dispatches = draw.chance(25) ? 2 : 1;

  world.routing.num_experts = world.num_experts;
  world.routing.num_topk = draw_num_topk(draw);
  world.routing.row_bytes = world.x.row_bytes();
  world.routing.scale_row_bytes = world.scales.row_bytes();
  world.routing.ranks.resize(static_cast<std::size_t>(num_ranks));
  draw_ranks(draw, world.routing, world.x, world.scales, is_large);
  world.routed = reference::dispatch(world.routing);
  world.expected = world.with_topk ? world.routed : reference::dispatch(without_topk(world));
  if (world.with_topk && Draw(seed + 0x3C6EF372FE94F82AU).chance(50)) expand(world, is_large);

  if (world.with_topk && draw.chance(20)) {
    std::int64_t most = 0;
    for (const auto& rank : world.expected) {
      most = std::max(most, static_cast<std::int64_t>(rank.recv_src_rank.size()));
    }
    world.num_worst_tokens = most + (draw.chance(30) ? 0 : draw.between(0, 50));
  }
  if (draw.chance(25)) world.cached = draw_cached(draw, world, is_large);
  if (draw.chance(85)) world.combine = draw_combine(draw, world, is_large);
  return world;
}

}  // namespace crossdock::testing
