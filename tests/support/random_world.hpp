// Random dispatches and combines of a whole world, with what the oracle says of them.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include <crossdock/types.hpp>

#include "reference/throughput.hpp"

namespace crossdock::testing {

/// A matrix's type and width. Scales may have no columns: then there are none.
struct MatrixShape {
  DataType dtype = DataType::kUint8;
  std::int64_t columns = 0;

  [[nodiscard]] std::size_t row_bytes() const { return static_cast<std::size_t>(columns) * size_of(dtype); }
};

/// Where the rows that combine sums come from.
enum class CombineSource : std::uint8_t {
  kCombineInput,  ///< a tensor of the arena, from Buffer::combine_input
  kReceived,      ///< recv_x itself, returned as it came
  kElsewhere,     ///< memory of the caller
};

/// Rows and scales that go the same way again.
struct CachedPart {
  MatrixShape x;
  MatrixShape scales;
  reference::DispatchWorld world;  ///< without top-k
  std::vector<reference::DispatchedRank> expected;
};

struct CombinePart {
  MatrixShape x;
  CombineSource source = CombineSource::kElsewhere;
  reference::CombineWorld world;  ///< each rank's rows, weights and biases
  std::vector<reference::CombinedRank> expected;
};

/// Everything that the ranks of one world do: one or more equal dispatches, perhaps a cached one, a combine of each.
struct RandomWorld {
  std::uint64_t seed = 0;
  MatrixShape x;
  MatrixShape scales;
  DataType id_dtype = DataType::kInt64;
  bool with_topk = true;
  int num_experts = 1;
  int expert_alignment = 1;
  bool expand = false;
  int num_dispatches = 1;  ///< handles alive at once
  std::optional<std::int64_t> num_worst_tokens;
  reference::DispatchWorld routing;                 ///< with ids and weights even if the dispatch goes without top-k
  std::vector<reference::DispatchedRank> routed;    ///< what the oracle makes of `routing`
  std::vector<reference::DispatchedRank> expected;  ///< and of the dispatch itself
  std::optional<CachedPart> cached;
  std::optional<CombinePart> combine;

  [[nodiscard]] int num_ranks() const noexcept { return static_cast<int>(routing.ranks.size()); }
  /// Rows of the tensors that a rank receives.
  [[nodiscard]] std::int64_t num_recv_rows(int rank) const;
  /// The seed and the shapes, for messages.
  [[nodiscard]] std::string description() const;
};

/// Enough for any world on any rank, whatever it has in flight.
inline constexpr std::size_t kWorldArenaBytes = std::size_t{12} << 20U;
inline constexpr std::size_t kLargeWorldArenaBytes = std::size_t{5} << 20U;
/// Worlds of more ranks than this are made of few, small tokens, and fit in kLargeWorldArenaBytes.
inline constexpr int kMaxSmallWorldRanks = 9;

/// The number of ranks that make_random_world gives the seed's world: 1 to 9, rarely up to 64.
[[nodiscard]] int num_ranks_of(std::uint64_t seed);
[[nodiscard]] RandomWorld make_random_world(std::uint64_t seed);

}  // namespace crossdock::testing
