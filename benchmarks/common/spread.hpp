// Copies one row to several places and reads it once: the inner loop of a dispatch.
#pragma once

#include "common/line.hpp"

namespace benchmarks {

struct SpreadRow {
  const std::byte* source;         // bytes, aligned to 64
  std::byte* const* destinations;  // [count], each aligned to 64
  std::size_t count;
  std::size_t bytes;               // a multiple of 64
  std::size_t prefetch_bytes = 0;  // how far ahead of the read position
};

/// Copies the kLines lines at `offset`: all loads first, then one destination after the other.
template <Store kStore, int kLines, Prefetch kPrefetch>
inline void spread_block(const SpreadRow& row, std::size_t offset) {
  Line lines[kLines];
  const std::byte* source = row.source + offset;
  for (int i = 0; i < kLines; ++i) {
    prefetch<kPrefetch>(source + row.prefetch_bytes + kLineBytes * static_cast<std::size_t>(i));
    lines[i] = load(source + kLineBytes * static_cast<std::size_t>(i));
  }
  for (std::size_t d = 0; d < row.count; ++d) {
    std::byte* destination = row.destinations[d] + offset;
    for (int i = 0; i < kLines; ++i) {
      store<kStore>(destination + kLineBytes * static_cast<std::size_t>(i), lines[i]);
    }
  }
}

template <Store kStore, int kLines, Prefetch kPrefetch>
inline void spread_row(const SpreadRow& row) {
  constexpr std::size_t kBlock = kLineBytes * kLines;
  std::size_t offset = 0;
  for (; offset + kBlock <= row.bytes; offset += kBlock) spread_block<kStore, kLines, kPrefetch>(row, offset);
  for (; offset < row.bytes; offset += kLineBytes) spread_block<kStore, 1, kPrefetch>(row, offset);
}

}  // namespace benchmarks
