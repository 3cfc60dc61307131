// Sets of ranks as the bits of a word.
#pragma once

#include <cstdint>

#include "backend/cuda/device/limits.hpp"

namespace crossdock::cuda::device {

/// Ranks beyond the last are in no set.
__device__ inline bool thread_takes_part(std::uint64_t ranks, int rank) {
  return rank < kMaxRanks && (ranks >> static_cast<unsigned>(rank) & 1U) != 0;
}

}  // namespace crossdock::cuda::device
