// The reduction of a combine.
#pragma once

#include <span>

#include "exchange.hpp"

namespace peers {

/// Sums the contributions to one token in the order given (ascending rank): float32, rounded once to bfloat16.
void sum_rows(std::span<const std::byte* const> rows, std::byte* result, std::size_t row_bytes);

/// Weights and sums every token's rows: fused multiply-adds in float32 from +0 in the order of its ids, rounded once to
/// bfloat16. bases: [ranks], where the answers of each rank begin, in the order of tokens and columns.
void sum_all_answers(const Job& job, std::span<const std::byte* const> bases);

/// Sums every token's contributions. bases: [ranks], where the rows that came back from each rank begin, in the order
/// in which they were sent.
void sum_all_rows(const Job& job, std::span<const std::byte* const> bases);

}  // namespace peers
