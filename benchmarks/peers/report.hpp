// The results, for people and as JSON.
#pragma once

#include <span>

#include "measure.hpp"

namespace peers {

void print_table(std::span<const Variant> variants);

/// Throws std::runtime_error if the file cannot be written.
void write_json(const Job& job, std::span<const Variant> variants);

}  // namespace peers
