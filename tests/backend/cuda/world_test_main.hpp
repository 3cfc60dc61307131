// The programs that run random worlds on a device.
#pragma once

#include <string>
#include <vector>

#include "core/world_group.hpp"

namespace crossdock::testing {

using RunWorlds = std::vector<std::string> (*)(const WorldGroup&);

/// What main does: a test for each number of ranks, on the devices in turn.
int run_cuda_worlds(int argc, char** argv, const char* suite, RunWorlds run);

}  // namespace crossdock::testing
