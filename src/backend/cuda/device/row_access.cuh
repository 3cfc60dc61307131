// Loads and stores of rows: everything is touched once, so it should not push anything out of the caches.
#pragma once

#include <cstdint>

#include "backend/cuda/device/limits.hpp"

namespace crossdock::cuda::device {

/// The type that moves that many bytes.
template <int kBytes>
struct Access;
template <>
struct Access<16> {
  using Type = uint4;
};
template <>
struct Access<8> {
  using Type = uint2;
};
template <>
struct Access<4> {
  using Type = unsigned int;
};
template <>
struct Access<2> {
  using Type = unsigned short;
};
template <>
struct Access<1> {
  using Type = unsigned char;
};

/// Calls body with a value of the access type of that many bytes. REQUIRES: bytes as access_bytes gives them.
template <typename Body>
void with_access(int bytes, const Body& body) {
  switch (bytes) {
    case 16: body(Access<16>::Type{}); return;
    case 8: body(Access<8>::Type{}); return;
    case 4: body(Access<4>::Type{}); return;
    case 2: body(Access<2>::Type{}); return;
    default: body(Access<1>::Type{}); return;
  }
}

/// Calls load(a value of the access type) for each, until one does not return cudaSuccess.
template <typename Load>
cudaError_t load_each_access(const Load& load) {
  cudaError_t error = cudaSuccess;
  for (const int bytes : {16, 8, 4, 2, 1}) {
    with_access(bytes, [&](auto access) {
      if (error == cudaSuccess) error = load(access);
    });
  }
  return error;
}

template <typename T>
__device__ T thread_load(const T* from) {
  return __ldcs(from);
}

template <typename T>
__device__ void thread_store(T* to, const T& value) {
  __stcs(to, value);
}

/// A lane's part of a piece of a row: kLoads accesses, which lie as far apart as a warp is wide.
template <int kLoads>
class LanePiece {
 public:
  /// The row has `count` accesses.
  __device__ LanePiece(int piece, std::int64_t count)
      : begin_(static_cast<std::int64_t>(piece) * (kLoads * kWarpThreads) + threadIdx.x % kWarpThreads),
        count_(count) {}

  /// Calls body(i, index) for those that are in the row.
  template <typename Body>
  __device__ void for_each(const Body& body) const {
#pragma unroll
    for (int i = 0; i < kLoads; ++i) {
      if (begin_ + i * kWarpThreads < count_) body(i, begin_ + i * kWarpThreads);
    }
  }

 private:
  std::int64_t begin_;
  std::int64_t count_;
};

}  // namespace crossdock::cuda::device
