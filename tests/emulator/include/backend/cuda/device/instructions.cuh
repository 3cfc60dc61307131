// The emulator's own: what src/backend/cuda/device/instructions.cuh writes in PTX.
#pragma once

#include <bit>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <exception>

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

inline std::uint64_t thread_acquire_here(const std::uint64_t* word) { return thread_acquire(word); }

inline void thread_release_here(std::uint32_t* word, std::uint32_t value) {
  __atomic_store_n(word, value, __ATOMIC_RELEASE);
}

inline void thread_release_here(std::uint64_t* word, std::uint64_t value) { thread_release(word, value); }

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

// Copies are over when they have begun.
#define CROSSDOCK_HAS_BULK_COPIES
inline void thread_begin_fetches(std::uint64_t* fetched) { *fetched = 0; }
inline void thread_fence_fetches() {}
inline void thread_fetch(void* shared, const std::byte* from, unsigned bytes, std::uint64_t* fetched) {
  std::memcpy(shared, from, bytes);
  ++*fetched;
}
inline void thread_await_fetch(std::uint64_t* fetched, bool is_odd) {
  if ((*fetched % 2 == 0) == is_odd) return;
  std::terminate();  // it would wait for what no one fetches
}
inline void thread_put(std::byte* to, const void* shared, unsigned bytes) { std::memcpy(to, shared, bytes); }
template <int kLeft>
void thread_await_reads_of_puts() {}
inline void thread_await_puts() {}

}  // namespace crossdock::cuda::device
