// Pieces of rows, dealt out to the warps of a grid one after the other.
#pragma once

#include <algorithm>
#include <cstdint>

#include "backend/cuda/device/limits.hpp"

namespace crossdock::cuda::device {

/// Of each block.
__device__ inline int block_threads() { return static_cast<int>(blockDim.x); }

__device__ inline bool thread_is_in_last_warp() {
  return static_cast<int>(threadIdx.x) / kWarpThreads == block_threads() / kWarpThreads - 1;
}

/// How many blocks and threads find work among some pieces, of `most_blocks` blocks and `most_threads` threads. If
/// there are few pieces, blocks have few threads: they would wait for each other for nothing.
struct GridShape {
  static constexpr int kFewestThreads = 256;

  int blocks;
  int threads;

  GridShape(std::int64_t pieces, int most_blocks, int most_threads) : threads(kFewestThreads) {
    const auto blocks_of = [&](int block_warps) { return (pieces + block_warps - 1) / block_warps; };
    blocks = static_cast<int>(
        std::clamp<std::int64_t>(blocks_of(kFewestThreads / kWarpThreads), 1, std::max(most_blocks, 1)));
    while (threads < most_threads && blocks_of(threads / kWarpThreads) > blocks) threads += kFewestThreads;
  }
};

/// Where a warp is in num_tokens x pieces pieces of work. All blocks get as many, to within one for each time that
/// their warps take some; so warps may have none. There is no division but at the beginning: it would take as long as a
/// piece. 32 bits count more pieces than a device's memory holds.
class WarpItem {
 public:
  __device__ WarpItem(std::int64_t num_tokens, int pieces)
      : WarpItem(num_tokens, pieces, static_cast<int>(blockIdx.x), static_cast<int>(gridDim.x)) {}
  /// Of some of the grid's blocks.
  __device__ WarpItem(std::int64_t num_tokens, int pieces, int block, int num_blocks)
      : pieces_(pieces > 0 ? static_cast<unsigned>(pieces) : 1U),
        num_tokens_(pieces > 0 ? static_cast<unsigned>(num_tokens) : 0U) {
    const unsigned warp = threadIdx.x / kWarpThreads;
    const auto blocks = static_cast<unsigned>(num_blocks);
    const unsigned most = blocks * (blockDim.x / kWarpThreads);
    const unsigned all = num_tokens_ * pieces_;
    const unsigned rounds = all > most ? (all + most - 1) / most : 1U;
    const unsigned shares = blocks * rounds;
    const unsigned block_warps = max((all + shares - 1) / shares, 1U);  // that have work
    const unsigned first = static_cast<unsigned>(block) * block_warps + warp;
    const unsigned step = blocks * block_warps;
    token_ = warp < block_warps ? first / pieces_ : num_tokens_;
    piece_ = first % pieces_;
    step_tokens_ = step / pieces_;
    step_pieces_ = step % pieces_;
  }

  [[nodiscard]] __device__ bool is_valid() const { return token_ < num_tokens_; }
  [[nodiscard]] __device__ std::int64_t token() const { return token_; }
  [[nodiscard]] __device__ int piece() const { return static_cast<int>(piece_); }
  [[nodiscard]] __device__ WarpItem next() const {
    WarpItem result = *this;
    result.step();
    return result;
  }
  __device__ void step() {
    token_ += step_tokens_;
    piece_ += step_pieces_;
    if (piece_ >= pieces_) {
      piece_ -= pieces_;
      ++token_;
    }
  }

 private:
  unsigned pieces_;
  unsigned num_tokens_;
  unsigned token_;
  unsigned piece_;
  unsigned step_tokens_;
  unsigned step_pieces_;
};

}  // namespace crossdock::cuda::device
