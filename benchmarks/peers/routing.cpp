#include "routing.hpp"

#include <fstream>
#include <numeric>
#include <random>
#include <stdexcept>
#include <utility>

namespace peers {
namespace {

/// topk distinct experts of each token, uniformly: the head of a shuffle that stops after topk steps.
std::vector<std::int32_t> draw_ids(const Options& options, std::mt19937_64& random) {
  std::vector<std::int32_t> deck(options.experts);
  std::iota(deck.begin(), deck.end(), 0);
  std::vector<std::int32_t> ids;
  ids.reserve(options.tokens * options.topk);
  for (std::size_t token = 0; token < options.tokens; ++token) {
    for (std::size_t k = 0; k < options.topk; ++k) {
      std::uniform_int_distribution<std::size_t> pick(k, options.experts - 1);
      std::swap(deck[k], deck[pick(random)]);
      ids.push_back(deck[k]);
    }
  }
  return ids;
}

std::vector<std::int32_t> read_ids(const Options& options, int rank) {
  const std::size_t count = options.tokens * options.topk;
  std::vector<std::int16_t> raw(count);
  std::ifstream file(options.routing, std::ios::binary);
  file.seekg(static_cast<std::streamoff>(static_cast<std::size_t>(rank) * count * sizeof(std::int16_t)));
  file.read(reinterpret_cast<char*>(raw.data()), static_cast<std::streamsize>(count * sizeof(std::int16_t)));
  if (!file) throw std::runtime_error(options.routing + " does not hold the routing of rank " + std::to_string(rank));
  return {raw.begin(), raw.end()};
}

void add_places(const Options& options, int ranks, Routing& routing) {
  const ExpertBlocks blocks{options.experts, static_cast<std::size_t>(ranks)};
  routing.counts.assign(static_cast<std::size_t>(ranks), 0);
  routing.first.push_back(0);
  for (std::size_t token = 0; token < options.tokens; ++token) {
    std::uint64_t members = 0;
    for (std::size_t k = 0; k < options.topk; ++k) {
      const std::int32_t expert = routing.ids[token * options.topk + k];
      if (expert >= 0) members |= std::uint64_t{1} << blocks.rank_of(expert);
    }
    for (int rank = 0; rank < ranks; ++rank) {
      if ((members >> rank & 1) != 0)
        routing.places.push_back({rank, routing.counts[static_cast<std::size_t>(rank)]++});
    }
    routing.first.push_back(routing.places.size());
  }
}

void add_answers(const Options& options, int ranks, Routing& routing) {
  const ExpertBlocks blocks{options.experts, static_cast<std::size_t>(ranks)};
  routing.answer_counts.assign(static_cast<std::size_t>(ranks), 0);
  for (const std::int32_t expert : routing.ids) {
    const int rank = expert < 0 ? -1 : blocks.rank_of(expert);
    routing.answers.push_back({rank, rank < 0 ? 0 : routing.answer_counts[static_cast<std::size_t>(rank)]++});
  }
}

}  // namespace

int ExpertBlocks::rank_of(std::int32_t expert) const {
  const auto index = static_cast<std::size_t>(expert);
  std::size_t rank = index * ranks / experts;
  while (rank + 1 < ranks && begin(rank + 1) <= index) ++rank;
  while (begin(rank) > index) --rank;
  return static_cast<int>(rank);
}

Routing make_routing(const Options& options, int rank, int ranks) {
  std::mt19937_64 random(options.seed * 1000003 + static_cast<std::uint64_t>(rank));
  Routing routing;
  routing.ids = options.routing == "uniform" ? draw_ids(options, random) : read_ids(options, rank);
  std::uniform_real_distribution<float> weight(0.0F, 1.0F);
  for (std::size_t i = 0; i < routing.ids.size(); ++i) routing.weights.push_back(weight(random));
  add_places(options, ranks, routing);
  add_answers(options, ranks, routing);
  return routing;
}

}  // namespace peers
