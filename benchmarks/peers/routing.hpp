// Who sends which token where: expert ids, their ranks, and the places of rows at their destinations.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "options.hpp"

namespace peers {

inline constexpr int kMostRanks = 64;

/// One row's place: the destination, and its number among the rows that this rank sends there or has from there.
struct Place {
  int rank;
  int index;
};

/// The routing of one rank.
struct Routing {
  std::vector<std::int32_t> ids;   // [tokens, topk], -1 for none
  std::vector<float> weights;      // [tokens, topk]
  std::vector<Place> places;       // of all tokens, one after the other; destinations ascend within a token
  std::vector<std::size_t> first;  // [tokens + 1], where each token's places begin
  std::vector<int> counts;         // [ranks], rows for each destination

  // With a row for each token and expert, as experts answer in low-latency mode:
  std::vector<Place> answers;      // [tokens, topk], rank -1 for none
  std::vector<int> answer_counts;  // [ranks]

  [[nodiscard]] std::span<const Place> places_of(std::size_t token) const {
    return {places.data() + first[token], first[token + 1] - first[token]};
  }
};

/// Experts lie on ranks in contiguous blocks, the first ranks holding one more where they do not divide.
struct ExpertBlocks {
  std::size_t experts;
  std::size_t ranks;

  [[nodiscard]] std::size_t begin(std::size_t rank) const {
    return rank * (experts / ranks) + (rank < experts % ranks ? rank : experts % ranks);
  }
  [[nodiscard]] int rank_of(std::int32_t expert) const;
};

/// Equal on every rank that asks for the same `rank`, so receivers can check what senders sent.
/// Throws std::runtime_error if a routing file is unreadable or too short.
[[nodiscard]] Routing make_routing(const Options& options, int rank, int ranks);

}  // namespace peers
