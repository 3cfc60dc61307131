// What one rank of the demonstration does in low-latency mode.
#pragma once

#include <memory>

#include <crossdock/bootstrap.hpp>

#include "crossdock/demo_rank.hpp"

namespace crossdock::tool {

/// Dispatches this rank's tokens as recorded in one call (M is the most tokens of a rank), runs its experts on the
/// packed rows of each, combines with the recorded weights, and writes its share of `shared`; shared.rows then counts
/// (token, expert) rows. Collective. Throws what the buffer throws. REQUIRES: options.combine_dtype is kBfloat16.
void run_low_latency_demo_rank(const MoeLayer& layer, const DemoRankOptions& options, const DemoShared& shared,
                               const std::shared_ptr<Bootstrap>& bootstrap);

}  // namespace crossdock::tool
