// Which experts each token of each rank goes to: random, or from a recorded trace.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "plan/experts.hpp"

namespace crossdock::tool {

struct RoutingShape {
  int num_ranks = 1;
  std::int64_t num_tokens = 0;  ///< per rank
  int num_topk = 1;
  int num_experts = 1;
};

struct Routing {
  RoutingShape shape;
  std::vector<std::int32_t> topk_idx;  ///< [R, T, K], ids in [0, E) or -1
  std::vector<float> topk_weights;     ///< [R, T, K]

  [[nodiscard]] std::span<const std::int32_t> ids_of(int rank) const { return slice(topk_idx, rank); }
  [[nodiscard]] std::span<const float> weights_of(int rank) const { return slice(topk_weights, rank); }
  [[nodiscard]] std::span<const std::int32_t> ids_of(int rank, std::int64_t token) const {
    const auto topk = static_cast<std::size_t>(shape.num_topk);
    return ids_of(rank).subspan(static_cast<std::size_t>(token) * topk, topk);
  }

 private:
  template <typename T>
  [[nodiscard]] std::span<const T> slice(const std::vector<T>& values, int rank) const {
    const auto size = static_cast<std::size_t>(shape.num_tokens) * static_cast<std::size_t>(shape.num_topk);
    return std::span(values).subspan(static_cast<std::size_t>(rank) * size, size);
  }
};

/// Distinct experts for each token, every choice equally likely; weights add up to one. The seed fixes everything.
/// Throws kInvalidArgument if there are fewer experts than top-k.
[[nodiscard]] Routing make_uniform_routing(const RoutingShape& shape, std::uint64_t seed);

/// What a user asks of a trace; top-k and experts are the trace's own, and must agree if given.
struct TraceRequest {
  int num_ranks = 1;
  std::int64_t num_tokens = 0;
  std::optional<int> num_topk;
  std::optional<int> num_experts;
  std::int64_t layer = 0;
};
/// The first ranks and tokens of a layer of a file with topk_idx int16 [layers, ranks, tokens, K] and topk_weights
/// bfloat16 of that shape, and num_experts in the metadata (see data/README.md).
/// Throws kInvalidArgument, saying what the trace has, for a request that does not fit; kFormat or kSystem for a bad
/// file.
[[nodiscard]] Routing load_trace_routing(const std::filesystem::path& path, const TraceRequest& request);

/// What a token is sent as.
enum class TokenRows : unsigned char {
  kRanks,       ///< a row for each rank that owns at least one of its experts
  kSelections,  ///< a row for each of its ids: an expanded dispatch
};

/// The ranks that a token's rows go to, ascending.
void find_destinations(std::span<const std::int32_t> ids, const plan::ExpertMap& experts, TokenRows rows,
                       std::vector<int>& out);

/// Rows that go from each rank to each rank: [source * R + destination].
[[nodiscard]] std::vector<std::int64_t> count_rows(const Routing& routing, TokenRows rows);

/// Rows of an expanded dispatch's result on a rank, whose groups begin at multiples of the alignment.
[[nodiscard]] std::int64_t count_aligned_rows(const Routing& routing, int alignment, int rank);

}  // namespace crossdock::tool
