// Pieces of rows, dealt out to the warps of a grid one after the other.
#pragma once

#include <cstdint>

#include "backend/cuda/device/limits.hpp"

namespace crossdock::cuda::device {

/// Where a warp is in num_tokens x pieces pieces of work. 32 bits count more pieces than a device's memory holds, and a
/// division by 64 bits would take as long as a piece.
class WarpItem {
 public:
  __device__ WarpItem(std::int64_t num_tokens, int pieces, int block_threads)
      : WarpItem(num_tokens, pieces, block_threads, static_cast<int>(blockIdx.x), static_cast<int>(gridDim.x)) {}
  /// Of some of the grid's blocks.
  __device__ WarpItem(std::int64_t num_tokens, int pieces, int block_threads, int block, int num_blocks)
      : pieces_(static_cast<unsigned>(pieces)), end_(static_cast<unsigned>(num_tokens) * pieces_) {
    const unsigned block_warps = static_cast<unsigned>(block_threads) / kWarpThreads;
    item_ = static_cast<unsigned>(block) * block_warps + threadIdx.x / kWarpThreads;
    step_ = static_cast<unsigned>(num_blocks) * block_warps;
  }

  [[nodiscard]] __device__ bool is_valid() const { return item_ < end_; }
  [[nodiscard]] __device__ std::int64_t token() const { return item_ / pieces_; }
  [[nodiscard]] __device__ int piece() const { return static_cast<int>(item_ % pieces_); }
  [[nodiscard]] __device__ WarpItem next() const {
    WarpItem result = *this;
    result.step();
    return result;
  }
  __device__ void step() { item_ += step_; }

 private:
  unsigned pieces_;
  unsigned end_;
  unsigned item_;
  unsigned step_;
};

}  // namespace crossdock::cuda::device
