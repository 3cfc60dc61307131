// Rows and records, packed for their destinations.
#pragma once

#include <cstdint>
#include <span>

#include "exchange.hpp"

namespace peers {

/// Reads each row of x once and writes it to its place in each destination's block. Streams past the caches when the
/// blocks are too large to stay in them.
/// bases: [ranks], where the block of each destination begins, aligned to 64 bytes.
void pack_rows(const Job& job, std::span<std::byte* const> bases);

/// bases: [ranks], where the records of each destination begin.
void pack_records(const Job& job, Records records, std::span<std::int32_t* const> bases);

/// Exclusive prefix sums.
[[nodiscard]] std::vector<int> offsets_of(const std::vector<int>& counts);

[[nodiscard]] int sum_of(const std::vector<int>& counts);

}  // namespace peers
