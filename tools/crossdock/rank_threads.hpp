// Ranks as threads; see rank_launcher.hpp.
#pragma once

#include "crossdock/rank_launcher.hpp"

namespace crossdock::tool {

/// REQUIRES: options.num_ranks >= 1.
[[nodiscard]] std::vector<RankFailure> run_rank_threads(const LaunchOptions& options, const RankBody& body);

/// What the exception that is being handled means for that rank. REQUIRES: called in a catch block.
[[nodiscard]] RankFailure describe_current_exception(int rank) noexcept;

}  // namespace crossdock::tool
