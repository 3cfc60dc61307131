// What kernels are compiled for.
#pragma once

namespace crossdock::cuda::device {

/// Ranks of a node: a token's destinations are the bits of a word, and kernels take the ranks' addresses by value,
/// which must fit the 4 KB of a kernel's arguments.
inline constexpr int kMaxRanks = 64;
inline constexpr int kWarpThreads = 32;

}  // namespace crossdock::cuda::device
