#include "core/low_latency_world.hpp"

#include <fmt/format.h>

#include <limits>

#include "support/draw.hpp"

namespace crossdock::testing {

namespace {

namespace oracle = reference::low_latency;

/// Any bits now and then; else a magnitude of at most `most`.
std::vector<Bfloat16> draw_values(Draw& draw, std::int64_t count, float most) {
  const int odd = draw.chance(50) ? 2 : 0;
  std::vector<Bfloat16> values(static_cast<std::size_t>(count));
  for (auto& value : values) {
    value = draw.chance(odd) ? Bfloat16{static_cast<std::uint16_t>(draw.between(0, 0xFFFF))}
                             : to_bfloat16(static_cast<float>(draw.between(-1000, 1000)) / 1000.0F * most);
  }
  return values;
}

/// Ids of one rank, which has room for M rows of an expert.
class IdDraw {
 public:
  IdDraw(Draw& draw, const oracle::DispatchWorld& world)
      : draw_(draw), world_(world), rows_(static_cast<std::size_t>(world.num_experts)) {}

  std::vector<std::int64_t> ids(std::int64_t num_tokens) {
    const bool goes_nowhere = draw_.chance(6);
    std::vector<std::int64_t> result;
    for (std::int64_t token = 0; token < num_tokens; ++token) {
      const std::int64_t first = draw_.between(0, world_.num_experts - 1);
      for (int k = 0; k < world_.num_topk; ++k) {
        const bool twice = k > 0 && draw_.chance(8);
        const std::int64_t id = twice ? result.back() : (first + k) % world_.num_experts;
        result.push_back(!goes_nowhere && !draw_.chance(10) && has_room(id) ? id : -1);
      }
    }
    return result;
  }

 private:
  bool has_room(std::int64_t id) { return id >= 0 && rows_[static_cast<std::size_t>(id)]++ < world_.max_tokens; }

  Draw& draw_;
  const oracle::DispatchWorld& world_;
  std::vector<std::int64_t> rows_;
};

std::vector<std::uint8_t> flags_of(const std::vector<int>& masked, int num_ranks) {
  std::vector<std::uint8_t> flags(static_cast<std::size_t>(num_ranks));
  for (const int rank : masked) flags[static_cast<std::size_t>(rank)] = 1;
  return flags;
}

}  // namespace

LowLatencySource LowLatencyWorld::source(int rank) const noexcept {
  const auto choice =
      only_source.value_or(static_cast<LowLatencySource>((seed + 2 * static_cast<std::uint64_t>(rank)) % 3));
  const bool is_logfmt = combine.format == oracle::WireFormat::kLogFmt;
  return is_logfmt && choice == LowLatencySource::kZeroCopy ? LowLatencySource::kArena : choice;
}

std::string LowLatencyWorld::description() const {
  return fmt::format("seed {}: {} ranks, {} experts, top-{}, M {}, hidden {}, row format {}{}", seed, num_ranks(),
                     dispatch.num_experts, dispatch.num_topk, dispatch.max_tokens, dispatch.hidden,
                     static_cast<int>(dispatch.format),
                     combine.format == oracle::WireFormat::kLogFmt ? ", LogFMT" : "");
}

LowLatencyWorld make_low_latency_world(std::uint64_t seed, const LowLatencyBounds& bounds) {
  Draw draw(seed);
  LowLatencyWorld world;
  world.seed = seed;
  world.id_dtype = draw.chance(30) ? DataType::kInt32 : DataType::kInt64;
  oracle::DispatchWorld& d = world.dispatch;
  const std::int64_t num_ranks = bounds.num_ranks != 0 ? bounds.num_ranks : draw.between(1, 9);
  d.num_experts = static_cast<int>(draw.between(1, bounds.max_experts));
  d.num_topk = static_cast<int>(draw.between(1, 9));
  constexpr std::int64_t kGroup = 128;
  const bool whole_groups = bounds.max_hidden >= kGroup && draw.chance(50);
  d.hidden = whole_groups ? kGroup * draw.between(1, bounds.max_hidden / kGroup) : draw.between(1, bounds.max_hidden);
  if (bounds.hidden != 0) d.hidden = bounds.hidden;
  d.max_tokens = draw.between(1, bounds.max_tokens);
  d.format = static_cast<oracle::RowFormat>(draw.between(0, 3));
  for (std::int64_t r = 0; r < num_ranks; ++r) {
    oracle::DispatchRank& rank = d.ranks.emplace_back();
    rank.num_tokens = bounds.all_tokens ? d.max_tokens : draw.chance(15) ? 0 : draw.between(0, d.max_tokens);
    rank.x = draw_values(draw, rank.num_tokens * d.hidden, 16.0F);
    rank.topk_idx = IdDraw(draw, d).ids(rank.num_tokens);
  }
  if (draw.chance(25) || bounds.only_logfmt) world.combine.format = oracle::WireFormat::kLogFmt;
  complete_low_latency_world(world);
  return world;
}

void complete_low_latency_world(LowLatencyWorld& world) {
  const oracle::DispatchWorld& d = world.dispatch;
  world.dispatched = oracle::dispatch(d);
  Draw draw(world.seed + 1);
  oracle::CombineWorld& c = world.combine;
  c = {.num_experts = d.num_experts,
       .num_topk = d.num_topk,
       .hidden = d.hidden,
       .max_tokens = d.max_tokens,
       .format = c.format,
       .is_masked = {},
       .ranks = {}};
  for (std::size_t r = 0; r < d.ranks.size(); ++r) {
    oracle::CombineRank& rank = c.ranks.emplace_back();
    rank.num_tokens = d.ranks[r].num_tokens;
    rank.topk_idx = d.ranks[r].topk_idx;
    for (const std::int64_t id : rank.topk_idx) {
      // A weight without a row must not be read.
      rank.topk_weights.push_back(id < 0 ? std::numeric_limits<float>::quiet_NaN()
                                         : static_cast<float>(draw.between(-64, 64)) / 37.0F);
    }
    const auto places = static_cast<std::int64_t>(world.dispatched[r].count.size()) *
                        static_cast<std::int64_t>(d.ranks.size()) * d.max_tokens;
    // LogFMT leaves rows with magnitudes of 1 and more as they are.
    rank.x = draw_values(draw, places * d.hidden, draw.chance(50) ? 0.9F : 16.0F);
  }
  world.combined = oracle::combine(c, world.dispatched);
}

LowLatencyWorld with_masked(LowLatencyWorld world, const std::vector<int>& at_dispatch,
                            const std::vector<int>& at_combine) {
  world.dispatch.is_masked = flags_of(at_dispatch, world.num_ranks());
  world.combine.is_masked = flags_of(at_combine, world.num_ranks());
  world.dispatched = oracle::dispatch(world.dispatch);
  world.combined = oracle::combine(world.combine, world.dispatched);
  return world;
}

}  // namespace crossdock::testing
