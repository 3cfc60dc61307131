#include "core/masked_world.hpp"

#include <algorithm>
#include <cstddef>

#include "plan/experts.hpp"

namespace crossdock::testing {

namespace {

using reference::DispatchRank;
using reference::DispatchWorld;

bool contains(const std::vector<int>& ranks, int rank) { return std::ranges::find(ranks, rank) != ranks.end(); }

void mask_selections(DispatchWorld& world, const std::vector<int>& masked) {
  const plan::ExpertMap experts(world.num_experts, static_cast<int>(world.ranks.size()));
  for (DispatchRank& rank : world.ranks) {
    for (std::int64_t& id : rank.topk_idx) {
      if (id >= 0 && contains(masked, experts.owner(static_cast<int>(id)))) id = -1;
    }
    for (std::size_t i = 0; i < rank.is_token_in_rank.size(); ++i) {
      if (contains(masked, static_cast<int>(i % world.ranks.size()))) rank.is_token_in_rank[i] = 0;
    }
  }
}

/// Dispatches without top-k and cached ones go where the table says.
void mask_world(DispatchWorld& world, const std::vector<int>& masked) {
  for (const int rank : masked) world.ranks[static_cast<std::size_t>(rank)] = DispatchRank{};
  mask_selections(world, masked);
}

void mask_combine(CombinePart& part, const RandomWorld& world, const std::vector<int>& masked) {
  for (std::size_t r = 0; r < part.world.ranks.size(); ++r) {
    reference::CombineRank& rank = part.world.ranks[r];
    if (contains(masked, static_cast<int>(r))) {
      rank = {};
      continue;
    }
    const std::size_t rows = world.expected[r].recv_src_rank.size();
    if (part.source == CombineSource::kReceived) rank.x = world.expected[r].recv_x;
    rank.x.resize(rows * part.x.row_bytes());
    const auto columns = static_cast<std::size_t>(part.world.num_topk);
    rank.topk_weights.resize(rows * (world.expand ? std::min<std::size_t>(columns, 1) : columns));
  }
  part.expected = reference::combine(part.world, world.expected);
}

DispatchWorld without_topk(const RandomWorld& world) {
  DispatchWorld result = world.routing;
  result.expand = world.expand;
  result.expert_alignment = world.expert_alignment;
  if (world.expand) return result;
  result.num_topk = 0;
  for (std::size_t rank = 0; rank < result.ranks.size(); ++rank) {
    result.ranks[rank].is_token_in_rank = world.routed[rank].is_token_in_rank;
  }
  return result;
}

}  // namespace

RandomWorld masked_world(const RandomWorld& world, const std::vector<int>& masked) {
  RandomWorld result = world;
  mask_world(result.routing, masked);
  result.routed = reference::dispatch(result.routing);
  const bool is_plain = world.with_topk && !world.expand;
  result.expected = is_plain ? result.routed : reference::dispatch(without_topk(result));
  if (result.cached) {
    mask_world(result.cached->world, masked);
    result.cached->expected = reference::dispatch(result.cached->world);
  }
  if (result.combine) mask_combine(*result.combine, result, masked);
  return result;
}

}  // namespace crossdock::testing
