// How a kernel tells the host that its grid is through.
#pragma once

#include <cstdint>

namespace crossdock::cuda::device {

/// The last block to end stores `value` to `flag`, which the host can read, after everything that the grid has stored.
struct Completion {
  std::uint32_t* blocks_ended = nullptr;  ///< device memory, 0 between kernels; one kernel at a time uses it
  std::uint64_t* flag = nullptr;          ///< pinned host memory; null: no one waits
  std::uint64_t value = 0;
};

}  // namespace crossdock::cuda::device
