// FP8 as codec/float8.hpp defines it.
#pragma once

#include <cstdint>

#include "backend/cuda/device/instructions.cuh"
#include "backend/cuda/device/limits.hpp"
#include "backend/cuda/device/low_latency_dispatch.hpp"
#include "backend/cuda/device/sums.cuh"

namespace crossdock::cuda::device {

/// Codes of four values, the first in the lowest byte.
__device__ inline unsigned thread_encode_float8(float a, float b, float c, float d) {
#ifdef CROSSDOCK_HAS_FLOAT8_INSTRUCTION
  return thread_round_to_float8(b, a) | static_cast<unsigned>(thread_round_to_float8(d, c)) << 16U;
#else
  const auto encode = [](float value) -> unsigned {
    const unsigned bits = __float_as_uint(value);
    const unsigned magnitude = bits & 0x7FFFFFFFU;
    const unsigned sign = bits >> 24U & 0x80U;
    if (magnitude > 0x7F800000U) return 0x7FU;
    if (magnitude >= 0x43E00000U) return sign | 0x7EU;  // 448
    if (magnitude < 0x3C800000U) {                      // 2^-6: multiples of 2^-9
      return sign | static_cast<unsigned>(__float2int_rn(__uint_as_float(magnitude) * 512.0F));
    }
    const unsigned rounded = (magnitude + 0x7FFFFU + (magnitude >> 20U & 1U)) >> 20U;
    return sign | (rounded - (120U << 3U));
  };
  return encode(a) | encode(b) << 8U | encode(c) << 16U | encode(d) << 24U;
#endif
}

struct GroupScale {
  float multiplier;
  float stored;
};

/// Of a group whose largest magnitude is `amax`; codec::scale_of.
__device__ inline GroupScale thread_scale_of(float amax, Cast cast) {
  const float infinity = __uint_as_float(0x7F800000U);
  if (amax == infinity) return {0.0F, infinity};
  const float stored = __fmul_rn(amax, 1.0F / 448.0F);
  if (cast == Cast::kFloat8) return {__fdiv_rn(448.0F, amax), stored};
  const unsigned bits = __float_as_uint(stored);
  const unsigned exponent = (bits >> 23U) + ((bits & 0x7FFFFFU) != 0 ? 1U : 0U);
  return {__uint_as_float((254U - exponent) << 23U), __uint_as_float(exponent << 23U)};
}

/// The largest magnitude of a group of which each of 16 lanes has eight values, NaNs left out, and at least 1e-4.
__device__ inline float warp_group_amax(const uint4& channels) {
  const unsigned words[] = {channels.x, channels.y, channels.z, channels.w};
  float amax = 1e-4F;
#pragma unroll
  for (const unsigned word : words) {  // a NaN gives the other argument
    amax = fmaxf(amax, fmaxf(fabsf(Bfloat16::thread_low(word)), fabsf(Bfloat16::thread_high(word))));
  }
#pragma unroll
  for (int distance = kWarpThreads / 4; distance > 0; distance /= 2) {
    amax = fmaxf(amax, __shfl_xor_sync(0xFFFFFFFFU, amax, distance));
  }
  return amax;
}

/// Codes of eight values that are multiplied first.
__device__ inline uint2 thread_cast(const uint4& channels, float multiplier) {
  const auto low = [multiplier](unsigned word) { return __fmul_rn(Bfloat16::thread_low(word), multiplier); };
  const auto high = [multiplier](unsigned word) { return __fmul_rn(Bfloat16::thread_high(word), multiplier); };
  return {thread_encode_float8(low(channels.x), high(channels.x), low(channels.y), high(channels.y)),
          thread_encode_float8(low(channels.z), high(channels.z), low(channels.w), high(channels.w))};
}

}  // namespace crossdock::cuda::device
