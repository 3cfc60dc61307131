// Sums of rows in float32, rounded once.
#pragma once

#include "backend/cuda/device/instructions.cuh"

namespace crossdock::cuda::device {

/// How elements lie in words of 32 bits, and what they are as floats.
struct Float32 {
  static constexpr int kBytes = 4;
  static constexpr int kPerWord = 1;
  static constexpr unsigned kNan = 0x7FC00000U;

  static __device__ void thread_add(unsigned word, float* sums) { sums[0] = __fadd_rn(sums[0], __uint_as_float(word)); }
  static __device__ unsigned thread_round_finite(const float* sums) { return __float_as_uint(sums[0]); }
  static __device__ unsigned thread_round(const float* sums) {
    return sums[0] != sums[0] ? kNan : __float_as_uint(sums[0]);
  }
};

/// bfloat16 as base/bfloat16.hpp defines it.
struct Bfloat16 {
  static constexpr int kBytes = 2;
  static constexpr int kPerWord = 2;
  static constexpr unsigned kNan = 0x7FC0U;

  static __device__ float thread_low(unsigned word) { return __uint_as_float(word << 16U); }
  static __device__ float thread_high(unsigned word) { return __uint_as_float(word & 0xFFFF0000U); }
  static __device__ void thread_add(unsigned word, float* sums) {
    sums[0] = __fadd_rn(sums[0], thread_low(word));
    sums[1] = __fadd_rn(sums[1], thread_high(word));
  }
  static __device__ void thread_add_weighted(unsigned word, float weight, float* sums) {
    sums[0] = __fmaf_rn(thread_low(word), weight, sums[0]);
    sums[1] = __fmaf_rn(thread_high(word), weight, sums[1]);
  }
  static __device__ unsigned thread_round_finite(const float* sums) {
    return thread_round_to_bfloat16(sums[1], sums[0]);
  }
  static __device__ unsigned thread_round(const float* sums) {
    return thread_round_one(sums[0]) | thread_round_one(sums[1]) << 16U;
  }

 private:
  static __device__ unsigned thread_round_one(float sum) {
    if (sum != sum) return kNan;
    const unsigned bits = __float_as_uint(sum);
    return (bits + 0x7FFFU + ((bits >> 16U) & 1U)) >> 16U;
  }
};

/// Sums of one access, by one thread. An access of half a word has zeros in the other half.
template <typename Type, typename T>
class Sums {
 public:
  static constexpr int kElements = static_cast<int>(sizeof(T)) / Type::kBytes;  ///< of an access

  __device__ void add(const T& access) {
    Words words{};
    words.access = access;
#pragma unroll
    for (int i = 0; i < kWords; ++i) Type::thread_add(words.bits[i], sums_ + i * Type::kPerWord);
  }
  /// Fused multiply-add.
  __device__ void add_weighted(const T& access, float weight) {
    Words words{};
    words.access = access;
#pragma unroll
    for (int i = 0; i < kWords; ++i) Type::thread_add_weighted(words.bits[i], weight, sums_ + i * Type::kPerWord);
  }
  /// The same of one element.
  __device__ void add_weighted(int element, float value, float weight) {
    sums_[element] = __fmaf_rn(value, weight, sums_[element]);
  }
  [[nodiscard]] __device__ T rounded() const {
    Words words;
    if (are_finite()) {  // the instruction's NaN is not the canonical one
#pragma unroll
      for (int i = 0; i < kWords; ++i) words.bits[i] = Type::thread_round_finite(sums_ + i * Type::kPerWord);
    } else {
#pragma unroll
      for (int i = 0; i < kWords; ++i) words.bits[i] = Type::thread_round(sums_ + i * Type::kPerWord);
    }
    return words.access;
  }

 private:
  static constexpr int kWords = sizeof(T) < sizeof(unsigned) ? 1 : static_cast<int>(sizeof(T) / sizeof(unsigned));
  union Words {
    unsigned bits[kWords];
    T access;
  };

  [[nodiscard]] __device__ bool are_finite() const {
    float zero = 0.0F;  // unless a sum is infinite or NaN
#pragma unroll
    for (const float sum : sums_) zero = fmaf(sum, 0.0F, zero);
    return zero == 0.0F;
  }

  float sums_[kWords * Type::kPerWord] = {};
};

}  // namespace crossdock::cuda::device
