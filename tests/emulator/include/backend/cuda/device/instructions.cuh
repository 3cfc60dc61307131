// The emulator's own: what src/backend/cuda/device/instructions.cuh writes in PTX.
#pragma once

#include <bit>
#include <chrono>
#include <cstdint>

#include "emulator/kernel.hpp"

namespace crossdock::cuda::device {

inline std::uint64_t thread_clock_ns() {
  crossdock::emulator::poll();
  const auto now = std::chrono::steady_clock::now().time_since_epoch();
  return static_cast<std::uint64_t>(std::chrono::nanoseconds(now).count());
}

inline std::uint64_t thread_acquire(const std::uint64_t* word) {
  crossdock::emulator::poll();
  return __atomic_load_n(word, __ATOMIC_ACQUIRE);
}

inline void thread_release(std::uint64_t* word, std::uint64_t value) {
  __atomic_store_n(word, value, __ATOMIC_RELEASE);
}

// Fences around them order more than themselves, which atomics of the CPU need not be told.
inline std::uint64_t thread_look(const std::uint64_t* word) { return __atomic_load_n(word, __ATOMIC_ACQUIRE); }
inline void thread_set(std::uint64_t* word, std::uint64_t value) { __atomic_store_n(word, value, __ATOMIC_RELEASE); }

inline std::uint32_t thread_acquire_here(const std::uint32_t* word) {
  crossdock::emulator::poll();
  return __atomic_load_n(word, __ATOMIC_ACQUIRE);
}

inline void thread_release_here(std::uint32_t* word, std::uint32_t value) {
  __atomic_store_n(word, value, __ATOMIC_RELEASE);
}

inline std::uint32_t thread_add_here(std::uint32_t* word, std::uint32_t value) {
  return __atomic_fetch_add(word, value, __ATOMIC_ACQ_REL);
}

inline unsigned thread_round_to_bfloat16(float high, float low) {
  const auto round = [](float value) -> unsigned {
    if (value != value) return 0x7FFFU;
    const auto bits = std::bit_cast<std::uint32_t>(value);
    return (bits + 0x7FFFU + (bits >> 16U & 1U)) >> 16U;
  };
  return round(high) << 16U | round(low);
}

}  // namespace crossdock::cuda::device
