// Accesses and instructions that CUDA C++ has no function for. All that is written in PTX is here.
#pragma once

#include <cstdint>

namespace crossdock::cuda::device {

__device__ inline std::uint64_t thread_clock_ns() {
  std::uint64_t now;
  asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(now));
  return now;
}

/// Matches thread_release, on any device.
__device__ inline std::uint64_t thread_acquire(const std::uint64_t* word) {
  std::uint64_t value;
  asm volatile("ld.acquire.sys.global.u64 %0, [%1];" : "=l"(value) : "l"(word) : "memory");
  return value;
}

__device__ inline void thread_release(std::uint64_t* word, std::uint64_t value) {
  asm volatile("st.release.sys.global.u64 [%0], %1;" ::"l"(word), "l"(value) : "memory");
}

/// What the word holds now, and what it is to hold: one access, without an order.
__device__ inline std::uint64_t thread_look(const std::uint64_t* word) {
  return *static_cast<const volatile std::uint64_t*>(word);
}
__device__ inline void thread_set(std::uint64_t* word, std::uint64_t value) {
  *static_cast<volatile std::uint64_t*>(word) = value;
}

/// Matches thread_release_here.
__device__ inline std::uint32_t thread_acquire_here(const std::uint32_t* word) {
  std::uint32_t value;
  asm volatile("ld.acquire.gpu.global.u32 %0, [%1];" : "=r"(value) : "l"(word) : "memory");
  return value;
}

/// For threads of the same device.
__device__ inline void thread_release_here(std::uint32_t* word, std::uint32_t value) {
  asm volatile("st.release.gpu.global.u32 [%0], %1;" ::"l"(word), "r"(value) : "memory");
}

/// Adds, for threads of the same device, and gives what was there: acquires and releases.
__device__ inline std::uint32_t thread_add_here(std::uint32_t* word, std::uint32_t value) {
  std::uint32_t before;
  asm volatile("atom.add.acq_rel.gpu.global.u32 %0, [%1], %2;" : "=r"(before) : "l"(word), "r"(value) : "memory");
  return before;
}

/// Two floats as bfloat16 of a word, to nearest even; a NaN becomes 0x7FFF.
__device__ inline unsigned thread_round_to_bfloat16(float high, float low) {
  unsigned word;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(word) : "f"(high), "f"(low));
  return word;
}

#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 890
#define CROSSDOCK_HAS_FLOAT8_INSTRUCTION
/// Two floats as FP8 e4m3, to nearest even; what is too large becomes 448, a NaN 0x7F.
__device__ inline unsigned short thread_round_to_float8(float high, float low) {
  unsigned short codes;
  asm("cvt.rn.satfinite.e4m3x2.f32 %0, %1, %2;" : "=h"(codes) : "f"(high), "f"(low));
  return codes;
}
#endif

}  // namespace crossdock::cuda::device
