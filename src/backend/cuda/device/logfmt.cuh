// LogFMT-10 as codec/logfmt_scale.hpp and codec/exponential.hpp define it: the same operations in the same order, with
// the same constants. Compiled for the host too, where the tests compare the two.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

namespace crossdock::cuda::device {

// A float32 of this size counts ones: integers up to nine bits become floats, and floats integers, by adding it.
inline constexpr float kOnes = 0x1p23F;
inline constexpr std::uint32_t kOnesBits = 0x4B000000U;

__host__ __device__ inline float thread_as_float(std::uint32_t bits) {
#ifdef __CUDA_ARCH__
  return __uint_as_float(bits);
#else
  float value;
  std::memcpy(&value, &bits, sizeof(value));
  return value;
#endif
}

__host__ __device__ inline std::uint32_t thread_as_bits(float value) {
#ifdef __CUDA_ARCH__
  return __float_as_uint(value);
#else
  std::uint32_t bits;
  std::memcpy(&bits, &value, sizeof(bits));
  return bits;
#endif
}

/// ones + floor(value). REQUIRES: ones counts ones.
__host__ __device__ inline float thread_add_floor(float value, float ones) {
#ifdef __CUDA_ARCH__
  return __fadd_rd(value, ones);
#else
  return std::floor(value) + ones;
#endif
}

/// codec::polynomial.
template <int kCount>
__host__ __device__ inline float thread_polynomial(const float (&coefficients)[kCount], float x) {
  float sum = coefficients[kCount - 1];
#pragma unroll
  for (int i = kCount - 2; i >= 0; --i) sum = fmaf(sum, x, coefficients[i]);
  return sum;
}

/// codec::log2_of a bfloat16 in the upper half of `word`, without its sign.
__host__ __device__ inline float thread_log2(std::uint32_t word) {
  constexpr float kCoefficients[] = {0x1.715454p+0F, -0x1.7139ccp-1F, 0x1.e8f4cep-2F, -0x1.5a7f8ep-2F,
                                     0x1.b627dcp-3F, -0x1.839766p-4F, 0x1.47f3eap-6F};
  const float exponent = thread_as_float((word >> 23U & 0xFFU) | kOnesBits) - (kOnes + 127.0F);
  const float u = thread_as_float((word & 0x7F0000U) | 0x3F800000U) - 1.0F;
  return fmaf(u, thread_polynomial(kCoefficients, u), exponent);
}

/// codec::exp2_of. REQUIRES: 2^x is normal and less than 2.
__host__ __device__ inline float thread_exp2(float x) {
  constexpr float kCoefficients[] = {0x1.62e430p-1F, 0x1.ebfa4cp-3F, 0x1.c6afeep-5F, 0x1.3cbf60p-7F, 0x1.5ec866p-10F};
  constexpr float kSignedOnes = 1.5F * kOnes;
  const float integer = thread_add_floor(x + 0.5F, kSignedOnes);
  const float f = x - (integer - kSignedOnes);
  const float fraction = fmaf(f, thread_polynomial(kCoefficients, f), 1.0F);
  return thread_as_float(thread_as_bits(fraction) + (thread_as_bits(integer) << 23U));  // times 2^n
}

/// codec::logfmt_castable.
__host__ __device__ inline bool thread_castable(std::uint32_t amax, std::uint32_t amin) {
  constexpr std::uint32_t kOneBits = 0x3F80;
  constexpr std::uint32_t kMinAmaxBits = 0x1080;
  return amin < amax && amax >= kMinAmaxBits && amax < kOneBits;
}

/// What decoding takes. A group that is not cast has step 0.
struct alignas(8) LogFmtRange {
  float log_min;
  float step;
};

/// What encoding takes.
struct LogFmtScale {
  LogFmtRange range;
  float inverse_step;
  float offset;
};

/// REQUIRES: thread_castable(amax, amin).
__host__ __device__ inline LogFmtScale thread_logfmt_scale(std::uint32_t amax, std::uint32_t amin) {
  constexpr float kSteps = 510.0F;
  constexpr float kOctaves = 32.0F;
  constexpr float kEighthOfLn2 = 0x1.62e430p-4F;
  const float log_max = thread_log2(amax << 16U);
  const float log_min = fmaxf(thread_log2(amin << 16U), log_max - kOctaves);
  const float range = log_max - log_min;
  const float step = range / kSteps;
  return {{log_min, step}, kSteps / range, fmaf(step, -kEighthOfLn2, 1.5F)};
}

/// The code, in the low nine bits, of a bfloat16 in the upper half of `word`.
__host__ __device__ inline std::uint32_t thread_encode(std::uint32_t word, const LogFmtScale& scale) {
  const float place = fmaf(thread_log2(word) - scale.range.log_min, scale.inverse_step, scale.offset);
  return thread_as_bits(thread_add_floor(fmaxf(place, 0.0F), kOnes)) & 0x1FFU;
}

/// The magnitude of a code.
__host__ __device__ inline float thread_decode(std::uint32_t code, const LogFmtRange& range) {
  const float place = thread_as_float(code | kOnesBits) - (kOnes + 1.0F);
  const float magnitude = thread_exp2(fmaf(place, range.step, range.log_min));
  return place < 0.0F ? 0.0F : magnitude;
}

/// Sixteen neighbours. Element e is bits 8 (e % 4) to 8 (e % 4) + 7 of low[e / 4]. Its ninth bit is bit 7 - e / 2 of
/// `high`, its sign bit 15 - e / 2; those of odd elements are 16 bits further up.
struct LogFmtPack {
  std::uint32_t low[4];
  std::uint32_t high;
};

/// Of eight pairs of bfloat16s, the first one of each in the lower half.
__host__ __device__ inline LogFmtPack thread_pack(const std::uint32_t* pairs, const LogFmtScale& scale) {
  LogFmtPack pack{};
#pragma unroll
  for (int i = 0; i < 8; ++i) {
    const std::uint32_t codes = thread_encode(pairs[i] << 16U, scale) | thread_encode(pairs[i], scale) << 16U;
    const std::uint32_t bytes = (codes & 0xFFU) | (codes >> 8U & 0xFF00U);
    pack.low[i / 2] |= bytes << 16 * (i % 2);
    pack.high |= ((codes & 0x01000100U) >> (i + 1)) | ((pairs[i] & 0x80008000U) >> i);
  }
  return pack;
}

/// Element e, which is known when this is compiled.
__host__ __device__ inline float thread_unpack(const LogFmtPack& pack, int e, const LogFmtRange& range) {
  const std::uint32_t low = pack.low[e / 4] >> 8 * (e % 4) & 0xFFU;
  const std::uint32_t at_top = pack.high << (e % 2 == 0 ? 16 + e / 2 : e / 2);  // the sign is bit 31, the ninth bit 23
  const float magnitude = thread_decode(low | (at_top >> 15U & 0x100U), range);
  return thread_as_float(thread_as_bits(magnitude) | (at_top & 0x80000000U));
}

}  // namespace crossdock::cuda::device
