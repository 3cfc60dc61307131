// Ranks as forked processes; see rank_launcher.hpp.
#pragma once

#include "crossdock/rank_launcher.hpp"

namespace crossdock::tool {

/// REQUIRES: options.num_ranks >= 1; the caller has no other thread.
[[nodiscard]] std::vector<RankFailure> run_rank_processes(const LaunchOptions& options, const RankBody& body);

}  // namespace crossdock::tool
