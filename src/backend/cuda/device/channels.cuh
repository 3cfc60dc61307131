// Eight neighbours of a bfloat16 row, of any length and alignment.
#pragma once

#include <cstddef>

#include "backend/cuda/device/row_access.cuh"

namespace crossdock::cuda::device {

inline constexpr int kLaneChannels = 8;  ///< neighbours that a lane moves at once

// T is uint4 if the channels of a lane are an aligned access in every row.

/// Neighbours of a row as pairs, zeros beyond its end.
template <typename T>
__device__ uint4 thread_load_channels(const std::byte* row, int begin, int hidden) {
  if constexpr (sizeof(T) == sizeof(uint4)) {
    return begin < hidden ? thread_load(reinterpret_cast<const uint4*>(row + 2 * begin)) : uint4{};
  } else {
    unsigned words[kLaneChannels / 2];
    for (int i = 0; i < kLaneChannels / 2; ++i) {
      const auto* channels = reinterpret_cast<const unsigned short*>(row) + begin + 2 * i;
      const unsigned low = begin + 2 * i < hidden ? channels[0] : 0;
      const unsigned high = begin + 2 * i + 1 < hidden ? channels[1] : 0;
      words[i] = low | high << 16U;
    }
    return {words[0], words[1], words[2], words[3]};
  }
}

template <typename T>
__device__ void thread_store_channels(std::byte* row, int begin, int hidden, uint4 pairs) {
  if constexpr (sizeof(T) == sizeof(uint4)) {
    if (begin < hidden) thread_store(reinterpret_cast<uint4*>(row + 2 * begin), pairs);
  } else {
    const unsigned words[] = {pairs.x, pairs.y, pairs.z, pairs.w};
#pragma unroll
    for (int i = 0; i < kLaneChannels; ++i) {
      auto* const channel = reinterpret_cast<unsigned short*>(row) + begin + i;
      if (begin + i < hidden) *channel = static_cast<unsigned short>(words[i / 2] >> 16 * (i % 2));
    }
  }
}

}  // namespace crossdock::cuda::device
