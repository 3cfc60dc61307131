// Random pairs of a low-latency dispatch and combine of a whole world, with what the oracle says of them.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include <crossdock/types.hpp>

#include "reference/low_latency.hpp"

namespace crossdock::testing {

/// Where the rows that a combine sums come from.
enum class LowLatencySource : std::uint8_t {
  kZeroCopy,   ///< a tensor of next_combine_buffer that the combine may keep
  kArena,      ///< such a tensor, but still the caller's
  kElsewhere,  ///< memory of the caller
};

/// What a world may be; 0 leaves it to chance.
struct LowLatencyBounds {
  int num_ranks = 0;
  int max_experts = 40;
  std::int64_t max_hidden = 600;
  std::int64_t hidden = 0;
  std::int64_t max_tokens = 24;
  bool all_tokens = false;   ///< every rank has as many as it may
  bool only_logfmt = false;  ///< combines; else some
};

struct LowLatencyWorld {
  std::uint64_t seed = 0;
  DataType id_dtype = DataType::kInt64;
  std::optional<LowLatencySource> only_source{};  ///< of all ranks; else they differ
  reference::low_latency::DispatchWorld dispatch;
  reference::low_latency::CombineWorld combine;
  /// What comes of them.
  std::vector<reference::low_latency::DispatchedRank> dispatched;
  std::vector<std::vector<Bfloat16>> combined;

  [[nodiscard]] int num_ranks() const noexcept { return static_cast<int>(dispatch.ranks.size()); }
  [[nodiscard]] LowLatencySource source(int rank) const noexcept;
  /// The seed and the shapes, for messages.
  [[nodiscard]] std::string description() const;
};

/// 1 to 9 ranks if it is not said how many; any of them may have no tokens or tokens that go nowhere.
[[nodiscard]] LowLatencyWorld make_low_latency_world(std::uint64_t seed, const LowLatencyBounds& bounds = {});

/// What comes of the same world where these ranks were masked from the dispatch on, and these at the combine.
[[nodiscard]] LowLatencyWorld with_masked(LowLatencyWorld world, const std::vector<int>& at_dispatch,
                                          const std::vector<int>& at_combine);

/// Draws the rows and weights of the combine for what was dispatched, and asks the oracle for all.
void complete_low_latency_world(LowLatencyWorld& world);

}  // namespace crossdock::testing
