// One cache line as a value: loads, ordinary and streaming stores, prefetches and bfloat16 arithmetic.
// Benchmarks are built with -march=native on the machine that they measure, so the widest instructions are known here.
#pragma once

#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>

#if defined(__SSE2__)
#include <immintrin.h>
#endif

namespace benchmarks {

inline constexpr std::size_t kLineBytes = 64;

using Line = std::uint32_t __attribute__((vector_size(64)));
using Floats = float __attribute__((vector_size(64)));

enum class Store { kRegular, kStreaming };
enum class Prefetch { kNone, kLevel1, kLevel2 };

inline Line load(const std::byte* source) {
  Line line;
  std::memcpy(&line, source, sizeof line);
  return line;
}

/// REQUIRES: destination is aligned to 64 bytes.
template <Store kStore>
inline void store(std::byte* destination, Line line) {
  if constexpr (kStore == Store::kStreaming) {
#if defined(__AVX512F__)
    _mm512_stream_si512(reinterpret_cast<__m512i*>(destination), std::bit_cast<__m512i>(line));
    return;
#elif defined(__AVX__)
    const auto* half = reinterpret_cast<const __m256i*>(&line);
    for (int i = 0; i < 2; ++i) _mm256_stream_si256(reinterpret_cast<__m256i*>(destination) + i, half[i]);
    return;
#elif defined(__SSE2__)
    const auto* quarter = reinterpret_cast<const __m128i*>(&line);
    for (int i = 0; i < 4; ++i) _mm_stream_si128(reinterpret_cast<__m128i*>(destination) + i, quarter[i]);
    return;
#endif
  }
  std::memcpy(destination, &line, sizeof line);
}

/// Orders streaming stores before whatever tells another process of them; once a phase, not once a row.
inline void streaming_fence() {
#if defined(__SSE2__)
  _mm_sfence();
#endif
}

template <Prefetch kPrefetch>
inline void prefetch(const std::byte* address) {
  if constexpr (kPrefetch == Prefetch::kLevel1) __builtin_prefetch(address, 0, 3);
  if constexpr (kPrefetch == Prefetch::kLevel2) __builtin_prefetch(address, 0, 2);
}

/// The 32 bfloat16 of a line as float32: the elements at even places and those at odd places.
inline Floats even_floats(Line line) { return std::bit_cast<Floats>(line << 16U); }
inline Floats odd_floats(Line line) { return std::bit_cast<Floats>(line & 0xFFFF0000U); }

/// values * factor + sum, rounded once.
inline Floats multiply_add(Floats values, float factor, Floats sum) {
#if defined(__AVX512F__)
  return std::bit_cast<Floats>(
      _mm512_fmadd_ps(std::bit_cast<__m512>(values), _mm512_set1_ps(factor), std::bit_cast<__m512>(sum)));
#else
  for (int i = 0; i < 16; ++i) sum[i] = std::fma(values[i], factor, sum[i]);
  return sum;
#endif
}

/// To nearest, ties to even, in the upper half of each word. Not for NaN, which benchmarks do not send.
inline Line round_to_bfloat16(Floats values) {
  const auto bits = std::bit_cast<Line>(values);
  return bits + 0x7FFFU + ((bits >> 16U) & 1U);
}

inline Line join_bfloat16(Floats even, Floats odd) {
  return (round_to_bfloat16(even) >> 16U) | (round_to_bfloat16(odd) & 0xFFFF0000U);
}

}  // namespace benchmarks
