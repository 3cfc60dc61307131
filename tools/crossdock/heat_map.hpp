// A matrix of counts and a histogram, as text.
#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "crossdock/terminal.hpp"

namespace crossdock::tool {

/// Rows that went from each rank (down) to each rank (across): numbers with shades where they fit, else shades alone.
/// `rows` is [R, R], [source, destination]. Where colours are, they replace the shades.
[[nodiscard]] std::string heat_map(std::span<const std::int64_t> rows, int num_ranks, const Terminal& terminal);

/// One column per expert; experts of one rank stand together. `load` has one entry per expert.
[[nodiscard]] std::string load_histogram(std::span<const std::int64_t> load, int num_ranks, const Terminal& terminal);

}  // namespace crossdock::tool
