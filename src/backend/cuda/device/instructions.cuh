// Accesses and instructions that CUDA C++ has no function for. All that is written in PTX is here.
#pragma once

#include <cstddef>
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

__device__ inline std::uint64_t thread_acquire_here(const std::uint64_t* word) {
  std::uint64_t value;
  asm volatile("ld.acquire.gpu.global.u64 %0, [%1];" : "=l"(value) : "l"(word) : "memory");
  return value;
}

/// For threads of the same device.
__device__ inline void thread_release_here(std::uint32_t* word, std::uint32_t value) {
  asm volatile("st.release.gpu.global.u32 [%0], %1;" ::"l"(word), "r"(value) : "memory");
}

__device__ inline void thread_release_here(std::uint64_t* word, std::uint64_t value) {
  asm volatile("st.release.gpu.global.u64 [%0], %1;" ::"l"(word), "l"(value) : "memory");
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

#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
#define CROSSDOCK_HAS_BULK_COPIES

// Bulk copies between global and shared memory, by one thread. Addresses and sizes are multiples of 16.

/// 32 bits that stand for an address in shared memory.
__device__ inline unsigned thread_shared_address(const void* address) {
  return static_cast<unsigned>(__cvta_generic_to_shared(address));
}

/// Of a word in shared memory that counts what has been fetched.
__device__ inline void thread_begin_fetches(std::uint64_t* fetched) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], 1;" ::"r"(thread_shared_address(fetched)) : "memory");
}
/// After thread_begin_fetches of all words.
__device__ inline void thread_fence_fetches() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }

__device__ inline void thread_fetch(void* shared, const std::byte* from, unsigned bytes, std::uint64_t* fetched) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(thread_shared_address(fetched)),
               "r"(bytes)
               : "memory");
  asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(
                   thread_shared_address(shared)),
               "l"(from), "r"(bytes), "r"(thread_shared_address(fetched))
               : "memory");
}
/// `is_odd`: how many fetches were awaited there before.
__device__ inline void thread_await_fetch(std::uint64_t* fetched, bool is_odd) {
  unsigned is_there = 0;
  while (is_there == 0) {
    asm volatile(
        "{\n .reg .pred there;\n mbarrier.try_wait.parity.shared::cta.b64 there, [%1], %2;\n"
        " selp.u32 %0, 1, 0, there;\n}"
        : "=r"(is_there)
        : "r"(thread_shared_address(fetched)), "r"(is_odd ? 1U : 0U)
        : "memory");
  }
}

__device__ inline void thread_put(std::byte* to, const void* shared, unsigned bytes) {
  asm volatile("cp.async.bulk.global.shared::cta.bulk_group [%0], [%1], %2;" ::"l"(to),
               "r"(thread_shared_address(shared)), "r"(bytes)
               : "memory");
  asm volatile("cp.async.bulk.commit_group;" ::: "memory");
}
/// Until all but the last kLeft puts have read what they put.
template <int kLeft>
__device__ void thread_await_reads_of_puts() {
  asm volatile("cp.async.bulk.wait_group.read %0;" ::"n"(kLeft) : "memory");
}
/// Until all puts are where they go.
__device__ inline void thread_await_puts() { asm volatile("cp.async.bulk.wait_group 0;" ::: "memory"); }
#endif

}  // namespace crossdock::cuda::device
