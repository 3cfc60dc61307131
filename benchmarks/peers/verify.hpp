// Rows with known contents, and the check of what a dispatch and a combine made of them.
#pragma once

#include <span>

#include "exchange.hpp"

namespace peers {

/// The row of a token: bfloat16 bits that differ between ranks, tokens and columns; finite, between 1/128 and 16.
void fill_row(int rank, std::size_t token, std::span<std::uint16_t> row);

[[nodiscard]] float to_float(std::uint16_t bits);

/// To nearest, ties to even. Not for NaN, which is never sent.
[[nodiscard]] std::uint16_t to_bfloat16(float value);

/// Received rows and records equal what every source had to send, in order; combined rows equal a serial sum bit for
/// bit. Says what differs on standard error. Not collective.
[[nodiscard]] bool verify(const Job& job, const Received& received);

}  // namespace peers
