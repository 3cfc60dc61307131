// Bounds that every bootstrap keeps, whatever carries its bytes.
#pragma once

#include <cstddef>

namespace crossdock::bootstrap {

/// Largest contribution of one rank to one all_gather, in bytes. Buffers exchange descriptors of a few kilobytes;
/// whoever needs more than this wants a dispatch.
inline constexpr std::size_t kMaxContribution = std::size_t{16} << 20U;

/// Largest group: a rank must fit the frames, and a wrong size should fail before it allocates.
inline constexpr int kMaxSize = 65'536;

}  // namespace crossdock::bootstrap
