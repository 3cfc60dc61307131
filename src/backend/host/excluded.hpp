// Leaving the ranks out that an operation goes without.
#pragma once

#include <cstdint>
#include <vector>

#include "backend/handle_state.hpp"
#include "backend/host/signals.hpp"
#include "plan/route.hpp"

namespace crossdock::host {

/// [R], or empty if all take part. REQUIRES: all have announced the operation.
[[nodiscard]] std::vector<bool> find_excluded(const Signals& signals, int num_ranks, std::uint64_t epoch);

/// The same rows without those of the excluded ranks; the others keep their places.
[[nodiscard]] plan::RouteTable without(const plan::RouteTable& route, const std::vector<bool>& excluded);

/// A dispatch as if the excluded ranks had no tokens, and no token had chosen one of their experts.
void leave_out(DispatchHandle::State& handle, const std::vector<bool>& excluded);

}  // namespace crossdock::host
