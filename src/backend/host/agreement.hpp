// Do all ranks mean the same operation?
#pragma once

#include <cstdint>
#include <string_view>

#include <crossdock/error.hpp>

#include "backend/host/masks.hpp"
#include "backend/host/windows.hpp"

namespace crossdock::host {

class Signals;

/// Compares the caller's masks with those of the ranks that have announced the epoch already. Throws kState if one of
/// them masks this rank, kMismatch naming this rank, another, and what they mask, if they differ.
void check_masks(const Windows& windows, const Masks& masks, std::uint64_t epoch, std::string_view operation);

/// kMismatch, with what two ranks that do not mean the same operation have said.
[[nodiscard]] Error disagreement(const Announcement& first, int first_rank, const Announcement& other, int rank,
                                 std::string_view operation);

/// Compares what all ranks that take part announced for the epoch. Every rank sees the same and so throws the same: the
/// refusing rank's reason (kInvalidArgument) or kMismatch naming two ranks and their values. REQUIRES: all have
/// announced.
void check_agreement(const Windows& windows, const Signals& signals, std::uint64_t epoch, std::string_view operation);

}  // namespace crossdock::host
