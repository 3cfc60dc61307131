// What kernels are compiled for.
#pragma once

namespace crossdock::cuda::device {

/// Ranks of a node: a token's destinations are the bits of a word.
inline constexpr int kMaxRanks = 64;
inline constexpr int kWarpThreads = 32;

}  // namespace crossdock::cuda::device
