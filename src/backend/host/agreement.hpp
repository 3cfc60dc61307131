// Do all ranks mean the same operation?
#pragma once

#include <cstdint>
#include <string_view>

#include "backend/host/windows.hpp"

namespace crossdock::host {

/// Compares what all ranks announced for the epoch. Every rank sees the same and so throws the same: the refusing
/// rank's reason (kInvalidArgument) or kMismatch naming two ranks and their values. REQUIRES: all have announced.
void check_agreement(const Windows& windows, std::uint64_t epoch, std::string_view operation);

}  // namespace crossdock::host
