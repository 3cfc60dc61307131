#include "crossdock/rank_launcher.hpp"

#include "base/error.hpp"
#include "crossdock/rank_processes.hpp"
#include "crossdock/rank_threads.hpp"

namespace crossdock::tool {

std::vector<RankFailure> run_ranks(const LaunchOptions& options, const RankBody& body) {
  require(options.num_ranks >= 1, "{} ranks cannot be run, at least 1 is needed", options.num_ranks);
  return options.mode == RankMode::kThreads ? run_rank_threads(options, body) : run_rank_processes(options, body);
}

void run_ranks_or_throw(const LaunchOptions& options, const RankBody& body) {
  const auto failures = run_ranks(options, body);
  if (failures.empty()) return;
  const RankFailure& cause = failures.front();
  throw Error(cause.code, cause.rank < 0 ? cause.message : fmt::format("rank {}: {}", cause.rank, cause.message))
      .with_rank(cause.rank);
}

}  // namespace crossdock::tool
