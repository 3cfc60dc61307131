#include "crossdock/routing.hpp"

#include <algorithm>
#include <numeric>
#include <utility>

#include "base/error.hpp"
#include "crossdock/random.hpp"
#include "plan/expert_groups.hpp"

namespace crossdock::tool {

namespace {

/// The first K entries of `experts` become K distinct random ones.
void shuffle_head(std::vector<std::int32_t>& experts, std::size_t num_topk, Random& random) {
  for (std::size_t k = 0; k < num_topk; ++k) {
    const auto rest = static_cast<std::uint32_t>(experts.size() - k);
    std::swap(experts[k], experts[k + random.below(rest)]);
  }
}

void append_weights(std::vector<float>& weights, std::size_t num_topk, Random& random) {
  float sum = 0;
  const std::size_t begin = weights.size();
  for (std::size_t k = 0; k < num_topk; ++k) {
    weights.push_back(static_cast<float>(1 + random.below(1000)));
    sum += weights.back();
  }
  for (std::size_t k = begin; k < weights.size(); ++k) weights[k] /= sum;
}

}  // namespace

Routing make_uniform_routing(const RoutingShape& shape, std::uint64_t seed) {
  require(shape.num_topk <= shape.num_experts, "top-{} needs at least as many experts, not {}", shape.num_topk,
          shape.num_experts);
  Routing result{shape, {}, {}};
  const auto num_topk = static_cast<std::size_t>(shape.num_topk);
  const auto num_tokens = static_cast<std::size_t>(shape.num_ranks) * static_cast<std::size_t>(shape.num_tokens);
  result.topk_idx.reserve(num_tokens * num_topk);
  result.topk_weights.reserve(num_tokens * num_topk);
  std::vector<std::int32_t> experts(static_cast<std::size_t>(shape.num_experts));
  std::iota(experts.begin(), experts.end(), 0);
  Random random(seed);
  for (std::size_t token = 0; token < num_tokens; ++token) {
    shuffle_head(experts, num_topk, random);
    result.topk_idx.insert(result.topk_idx.end(), experts.begin(),
                           experts.begin() + static_cast<std::ptrdiff_t>(num_topk));
    append_weights(result.topk_weights, num_topk, random);
  }
  return result;
}

void find_destinations(std::span<const std::int32_t> ids, const plan::ExpertMap& experts, TokenRows rows,
                       std::vector<int>& out) {
  out.clear();
  for (const auto id : ids) {
    if (id >= 0) out.push_back(experts.owner(id));
  }
  std::sort(out.begin(), out.end());
  if (rows == TokenRows::kRanks) out.erase(std::unique(out.begin(), out.end()), out.end());
}

std::vector<std::int64_t> count_rows(const Routing& routing, TokenRows rows) {
  const auto num_ranks = static_cast<std::size_t>(routing.shape.num_ranks);
  const plan::ExpertMap experts(routing.shape.num_experts, routing.shape.num_ranks);
  std::vector<std::int64_t> result(num_ranks * num_ranks);
  std::vector<int> destinations;
  for (int source = 0; source < routing.shape.num_ranks; ++source) {
    for (std::int64_t token = 0; token < routing.shape.num_tokens; ++token) {
      find_destinations(routing.ids_of(source, token), experts, rows, destinations);
      for (const int destination : destinations) {
        ++result[static_cast<std::size_t>(source) * num_ranks + static_cast<std::size_t>(destination)];
      }
    }
  }
  return result;
}

std::int64_t count_aligned_rows(const Routing& routing, int alignment, int rank) {
  const plan::ExpertMap experts(routing.shape.num_experts, routing.shape.num_ranks);
  const auto num_experts = static_cast<std::size_t>(routing.shape.num_experts);
  std::vector<std::int32_t> selections(static_cast<std::size_t>(routing.shape.num_ranks) * num_experts);
  for (int source = 0; source < routing.shape.num_ranks; ++source) {
    for (const std::int32_t id : routing.ids_of(source)) {
      if (id >= 0) ++selections[static_cast<std::size_t>(source) * num_experts + static_cast<std::size_t>(id)];
    }
  }
  return plan::ExpertGroups(std::move(selections), routing.shape.num_ranks, experts, alignment).num_rows(rank);
}

}  // namespace crossdock::tool
