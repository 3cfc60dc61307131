// Sums bfloat16 rows in float32, weighted or not, in the order given, and rounds once: the inner loop of a combine.
#pragma once

#include "common/line.hpp"

namespace benchmarks {

struct ReduceRow {
  const std::byte* const* sources;  // [count], each aligned to 64
  const float* weights = nullptr;   // [count], for fused multiply-adds; absent: a plain sum
  std::size_t count;
  std::byte* result;               // aligned to 64
  std::size_t bytes;               // a multiple of 64
  std::size_t prefetch_bytes = 0;  // how far ahead of the read positions
};

template <Store kStore, int kLines, Prefetch kPrefetch, bool kWeighted>
inline void reduce_block(const ReduceRow& row, std::size_t offset) {
  Floats even[kLines] = {};
  Floats odd[kLines] = {};
  for (std::size_t s = 0; s < row.count; ++s) {
    const std::byte* source = row.sources[s] + offset;
    const float weight = kWeighted ? row.weights[s] : 1.0F;
    for (int i = 0; i < kLines; ++i) {
      prefetch<kPrefetch>(source + row.prefetch_bytes + kLineBytes * static_cast<std::size_t>(i));
      const Line line = load(source + kLineBytes * static_cast<std::size_t>(i));
      if constexpr (kWeighted) {
        even[i] = multiply_add(even_floats(line), weight, even[i]);
        odd[i] = multiply_add(odd_floats(line), weight, odd[i]);
      } else {
        even[i] += even_floats(line);
        odd[i] += odd_floats(line);
      }
    }
  }
  for (int i = 0; i < kLines; ++i) {
    store<kStore>(row.result + offset + kLineBytes * static_cast<std::size_t>(i), join_bfloat16(even[i], odd[i]));
  }
}

template <Store kStore, int kLines, Prefetch kPrefetch, bool kWeighted>
inline void reduce_blocks(const ReduceRow& row) {
  constexpr std::size_t kBlock = kLineBytes * kLines;
  std::size_t offset = 0;
  for (; offset + kBlock <= row.bytes; offset += kBlock) {
    reduce_block<kStore, kLines, kPrefetch, kWeighted>(row, offset);
  }
  for (; offset < row.bytes; offset += kLineBytes) reduce_block<kStore, 1, kPrefetch, kWeighted>(row, offset);
}

template <Store kStore, int kLines, Prefetch kPrefetch>
inline void reduce_row(const ReduceRow& row) {
  if (row.weights == nullptr) {
    reduce_blocks<kStore, kLines, kPrefetch, false>(row);
  } else {
    reduce_blocks<kStore, kLines, kPrefetch, true>(row);
  }
}

}  // namespace benchmarks
