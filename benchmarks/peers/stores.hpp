// Which stores, and rows copied with them.
#pragma once

#include <span>

#include "common/spread.hpp"

namespace peers {

/// Batches up to this size are still in the cache when they are read next: half of a usual L2 cache. Measured: 64 rows
/// of 14 KiB that are copied once more gain from streaming stores, 16 rows lose.
inline constexpr std::size_t kCachedBytes = std::size_t{512} << 10;

/// Calls work.operator()<Store>() for a batch of that size: regular stores, or streaming ones past the caches.
template <typename Work>
void with_stores_for(std::size_t bytes, const Work& work) {
  if (bytes <= kCachedBytes) {
    work.template operator()<benchmarks::Store::kRegular>();
  } else {
    work.template operator()<benchmarks::Store::kStreaming>();
    benchmarks::streaming_fence();
  }
}

/// Reads a row once and copies it to all destinations; everything is aligned to 64 bytes.
template <benchmarks::Store kStore>
void spread_row(const std::byte* source, std::span<std::byte* const> destinations, std::size_t bytes) {
  benchmarks::spread_row<kStore, 2, benchmarks::Prefetch::kLevel1>({.source = source,
                                                                    .destinations = destinations.data(),
                                                                    .count = destinations.size(),
                                                                    .bytes = bytes,
                                                                    .prefetch_bytes = 512});
}

}  // namespace peers
