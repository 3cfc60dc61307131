// What the oracle says of a world in which ranks are masked.
#pragma once

#include <vector>

#include "support/random_world.hpp"

namespace crossdock::testing {

/// The world in which the masked ranks have no tokens, and selections of their experts are -1.
[[nodiscard]] RandomWorld masked_world(const RandomWorld& world, const std::vector<int>& masked);

}  // namespace crossdock::testing
