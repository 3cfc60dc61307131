#include "core/property_arguments.hpp"

#include <charconv>
#include <cstdio>
#include <cstdlib>
#include <optional>
#include <string_view>

#include "support/random_world.hpp"

namespace crossdock::testing {

namespace {

/// N of `name`N, if the argument is that.
std::optional<std::uint64_t> value_of(std::string_view argument, std::string_view name) {
  if (!argument.starts_with(name)) return std::nullopt;
  argument.remove_prefix(name.size());
  std::uint64_t value = 0;
  const auto parsed = std::from_chars(argument.data(), argument.data() + argument.size(), value);
  if (parsed.ec != std::errc{} || parsed.ptr != argument.data() + argument.size()) return std::nullopt;
  return value;
}

}  // namespace

PropertyArguments parse_property_arguments(int argc, char** argv, std::uint64_t default_worlds) {
  PropertyArguments result{.first_seed = 1, .num_worlds = default_worlds};
  for (int i = 1; i < argc; ++i) {
    if (const auto seed = value_of(argv[i], "--seed=")) {
      result = {.first_seed = *seed, .num_worlds = 1};
    } else if (const auto first_seed = value_of(argv[i], "--first_seed=")) {
      result.first_seed = *first_seed;
    } else if (const auto num_worlds = value_of(argv[i], "--worlds=")) {
      result.num_worlds = *num_worlds;
    } else {
      std::fprintf(stderr, "%s: allowed are --seed=N, or --first_seed=N and --worlds=N\n", argv[i]);
      std::exit(2);
    }
  }
  return result;
}

std::map<int, std::vector<std::uint64_t>> group_by_ranks(const PropertyArguments& arguments) {
  std::map<int, std::vector<std::uint64_t>> result;
  for (std::uint64_t i = 0; i < arguments.num_worlds; ++i) {
    const std::uint64_t seed = arguments.first_seed + i;
    result[num_ranks_of(seed)].push_back(seed);
  }
  return result;
}

}  // namespace crossdock::testing
