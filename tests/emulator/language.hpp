// Included before every translated .cu file: what a compiler for CUDA declares by itself.
#pragma once

#include <cuda_runtime_api.h>
#include <vector_functions.h>

#include <algorithm>
#include <bit>
#include <cfenv>
#include <cmath>
#include <cstring>
#include <tuple>
#include <type_traits>

#include "emulator/kernel.hpp"
#include "emulator/stream.hpp"

#undef __global__
#undef __device__
#undef __host__
#undef __shared__
#undef __constant__
#undef __forceinline__
#undef __noinline__
#undef __launch_bounds__
#define __global__
#define __device__
#define __host__
#define __shared__ static thread_local  // a thread of the operating system runs one block at a time
#define __constant__
#define __forceinline__ inline
#define __noinline__
#define __launch_bounds__(...)
#define threadIdx (crossdock::emulator::place().thread)
#define blockIdx (crossdock::emulator::place().block)
#define blockDim (crossdock::emulator::place().block_dim)
#define gridDim (crossdock::emulator::place().grid_dim)

namespace crossdock::emulator {

/// What `kernel<<<grid, block, shared, stream>>>(arguments)` is translated to.
template <typename... Parameters>
class Launcher {
 public:
  Launcher(void (*kernel)(Parameters...), dim3 grid, dim3 block, std::size_t shared, cudaStream_t stream)
      : kernel_(kernel), shape_{grid, block, shared}, stream_(stream) {}

  void operator()(std::type_identity_t<Parameters>... arguments) const {
    launch(stream_, shape_, [kernel = kernel_, kept = std::tuple<std::decay_t<Parameters>...>(arguments...)] {
      std::apply(kernel, kept);
    });
  }

 private:
  void (*kernel_)(Parameters...);
  Shape shape_;
  cudaStream_t stream_;
};

template <typename... Parameters>
Launcher<Parameters...> launcher(void (*kernel)(Parameters...), dim3 grid, dim3 block, std::size_t shared = 0,
                                 cudaStream_t stream = nullptr) {
  return Launcher<Parameters...>(kernel, grid, block, shared, stream);
}

template <typename T>
std::uint64_t to_word(T value) {
  static_assert(sizeof(T) <= sizeof(std::uint64_t));
  std::uint64_t word = 0;
  std::memcpy(&word, &value, sizeof(value));
  return word;
}

template <typename T>
T from_word(std::uint64_t word) {
  T value;
  std::memcpy(&value, &word, sizeof(value));
  return value;
}

inline unsigned lane() { return place().thread.x % kWarpLanes; }

}  // namespace crossdock::emulator

template <typename T>
cudaError_t cudaMalloc(T** memory, std::size_t bytes) {
  return cudaMalloc(reinterpret_cast<void**>(memory), bytes);
}
template <typename... Parameters>
cudaError_t cudaFuncGetAttributes(cudaFuncAttributes* attributes, void (*)(Parameters...)) {
  *attributes = {};
  attributes->maxThreadsPerBlock = 1024;
  attributes->ptxVersion = 90;
  return cudaSuccess;
}
template <typename... Parameters>
cudaError_t cudaFuncSetAttribute(void (*)(Parameters...), cudaFuncAttribute, int) {
  return cudaSuccess;
}

inline void __syncthreads() { crossdock::emulator::meet_block(0); }
inline int __syncthreads_or(int vote) { return static_cast<int>(crossdock::emulator::meet_block(vote != 0).any); }
inline int __syncthreads_and(int vote) { return static_cast<int>(crossdock::emulator::meet_block(vote != 0).all); }
inline void __syncwarp(unsigned mask = crossdock::emulator::kAllLanes) { crossdock::emulator::meet_lanes(mask, 0); }
inline void __threadfence_system() { __atomic_thread_fence(__ATOMIC_SEQ_CST); }

template <typename T>
T __shfl_sync(unsigned mask, T value, int from) {
  using namespace crossdock::emulator;
  return from_word<T>(meet_lanes(mask, to_word(value))[static_cast<unsigned>(from) % kWarpLanes]);
}
template <typename T>
T __shfl_xor_sync(unsigned mask, T value, int distance) {
  using namespace crossdock::emulator;
  return from_word<T>(meet_lanes(mask, to_word(value))[(lane() ^ static_cast<unsigned>(distance)) % kWarpLanes]);
}
template <typename T>
T __shfl_up_sync(unsigned mask, T value, unsigned distance) {
  using namespace crossdock::emulator;
  const std::uint64_t* values = meet_lanes(mask, to_word(value));
  return from_word<T>(values[lane() < distance ? lane() : lane() - distance]);
}
template <typename T>
unsigned __match_any_sync(unsigned mask, T value) {
  using namespace crossdock::emulator;
  const std::uint64_t* values = meet_lanes(mask, to_word(value));
  unsigned same = 0;
  for (unsigned i = 0; i < kWarpLanes; ++i) {
    if ((mask >> i & 1U) != 0 && values[i] == to_word(value)) same |= 1U << i;
  }
  return same;
}
inline unsigned __ballot_sync(unsigned mask, int vote) {
  using namespace crossdock::emulator;
  const std::uint64_t* values = meet_lanes(mask, vote != 0);
  unsigned votes = 0;
  for (unsigned i = 0; i < kWarpLanes; ++i) {
    if ((mask >> i & 1U) != 0 && values[i] != 0) votes |= 1U << i;
  }
  return votes;
}
inline int __all_sync(unsigned mask, int vote) { return __ballot_sync(mask, vote) == mask; }
inline int __any_sync(unsigned mask, int vote) { return __ballot_sync(mask, vote) != 0; }
inline unsigned __reduce_add_sync(unsigned mask, unsigned value) {
  using namespace crossdock::emulator;
  const std::uint64_t* values = meet_lanes(mask, value);
  unsigned sum = 0;
  for (unsigned i = 0; i < kWarpLanes; ++i) {
    if ((mask >> i & 1U) != 0) sum += static_cast<unsigned>(values[i]);
  }
  return sum;
}
inline int __reduce_add_sync(unsigned mask, int value) {
  return static_cast<int>(__reduce_add_sync(mask, static_cast<unsigned>(value)));
}

template <typename T>
T atomicAdd(T* word, std::type_identity_t<T> value) {
  return __atomic_fetch_add(word, value, __ATOMIC_SEQ_CST);
}
template <typename T>
T atomicOr(T* word, std::type_identity_t<T> value) {
  return __atomic_fetch_or(word, value, __ATOMIC_SEQ_CST);
}
template <typename T>
T atomicCAS(T* word, std::type_identity_t<T> expected, std::type_identity_t<T> value) {
  __atomic_compare_exchange_n(word, &expected, value, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
  return expected;
}
template <typename T>
T atomicCAS_system(T* word, std::type_identity_t<T> expected, std::type_identity_t<T> value) {
  return atomicCAS(word, expected, value);
}
template <typename T>
T atomicMin(T* word, std::type_identity_t<T> value) {
  T old = *word;
  while (value < old && !__atomic_compare_exchange_n(word, &old, value, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST)) {
  }
  return old;
}
template <typename T>
T atomicMax(T* word, std::type_identity_t<T> value) {
  T old = *word;
  while (value > old && !__atomic_compare_exchange_n(word, &old, value, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST)) {
  }
  return old;
}

template <typename T>
T __ldcs(const T* from) {
  return *from;
}
template <typename T>
T __ldcg(const T* from) {
  return *from;
}
template <typename T>
void __stcs(T* to, const T& value) {
  *to = value;
}

inline int __popc(unsigned word) { return std::popcount(word); }
inline int __popcll(unsigned long long word) { return std::popcount(word); }
inline int __ffs(int word) { return __builtin_ffs(word); }
inline int __ffsll(long long word) { return __builtin_ffsll(word); }
inline float __uint_as_float(unsigned word) { return std::bit_cast<float>(word); }
inline unsigned __float_as_uint(float value) { return std::bit_cast<unsigned>(value); }
inline float __fadd_rn(float a, float b) { return a + b; }
inline float __fmul_rn(float a, float b) { return a * b; }
inline float __fdiv_rn(float a, float b) { return a / b; }
inline float __fmaf_rn(float a, float b, float c) { return std::fmaf(a, b, c); }
inline int __float2int_rn(float value) { return static_cast<int>(std::nearbyintf(value)); }
inline float __fadd_rd(float a, float b) {
  const int mode = std::fegetround();
  std::fesetround(FE_DOWNWARD);
  volatile float x = a;  // not to be computed at another time
  volatile float sum = x + b;
  std::fesetround(mode);
  return sum;
}
template <typename A, typename B>
std::common_type_t<A, B> min(A a, B b) {
  using T = std::common_type_t<A, B>;
  return std::min<T>(a, b);
}
template <typename A, typename B>
std::common_type_t<A, B> max(A a, B b) {
  using T = std::common_type_t<A, B>;
  return std::max<T>(a, b);
}
