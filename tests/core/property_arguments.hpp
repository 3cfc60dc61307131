// Which random worlds a property test runs: `--seed=N` for one, `--first_seed=N` and `--worlds=N` for a range.
#pragma once

#include <cstdint>
#include <map>
#include <vector>

namespace crossdock::testing {

struct PropertyArguments {
  std::uint64_t first_seed = 1;
  std::uint64_t num_worlds = 1;
};

/// What is left of the command line after InitGoogleTest. Ends the program, saying why, for anything else.
[[nodiscard]] PropertyArguments parse_property_arguments(int argc, char** argv, std::uint64_t default_worlds);

/// Seeds by the number of ranks of their worlds, so that worlds can share ranks and buffers.
[[nodiscard]] std::map<int, std::vector<std::uint64_t>> group_by_ranks(const PropertyArguments& arguments);

}  // namespace crossdock::testing
