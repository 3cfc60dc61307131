// The check of what a low-latency dispatch and combine made of the rows of verify.hpp.
#pragma once

#include <span>

#include "exchange.hpp"

namespace peers {

/// What a low-latency dispatch gave to this rank.
struct PackedRows {
  const std::byte* blocks;         // [local experts, rows_per_expert, hidden] bfloat16, packed from row 0
  const std::vector<int>* counts;  // [local experts]
  std::size_t rows_per_expert;
  std::size_t first_expert;  // number of the first local expert among all
};

enum class Marks { kNone, kExperts };

/// What an expert that leaves a mark makes of a row: other bits for each of 128 experts, finite as before.
void mark_row(std::size_t expert, std::span<std::uint16_t> row);

/// The rows of each local expert equal what all sources had for it, ordered by source, token and column. Not
/// collective, and says on standard error what differs, like the next one.
[[nodiscard]] bool verify_packed(const Job& job, const PackedRows& packed);

/// The combined rows equal a serial weighted sum bit for bit.
[[nodiscard]] bool verify_weighted(const Job& job, Marks marks);

}  // namespace peers
