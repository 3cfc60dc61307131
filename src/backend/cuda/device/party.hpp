// What every kernel is told that waits for other ranks.
#pragma once

#include <cstddef>
#include <cstdint>

#include "backend/cuda/device/control.hpp"
#include "backend/cuda/device/limits.hpp"

namespace crossdock::cuda::device {

/// Which halves of an operation a kernel does.
enum class Phases : std::uint32_t { kSend = 1, kReceive = 2, kBoth = 3 };

struct Party {
  std::int32_t rank = 0;
  std::int32_t num_ranks = 0;
  std::int32_t max_experts = 0;
  Phases phases = Phases::kBoth;
  bool notes_progress = false;   ///< the host wants to know how far all ranks have read
  bool masks_lost = false;       ///< BufferOptions::mask_lost_ranks
  std::uint64_t ordinal = 0;     ///< of this operation among those that this rank's host began
  std::uint64_t timeout_ns = 0;  ///< of each half
  Mailbox* mailbox = nullptr;
  std::int64_t* wait_costs = nullptr;  ///< [R], or null
  std::uint64_t* epoch = nullptr;      ///< the operation's own word: its first half tells the second
  std::byte* windows[kMaxRanks] = {};  ///< beginning of each rank's window
};

}  // namespace crossdock::cuda::device
