// How a kernel tells the host that its grid is through.
#pragma once

#include <cstdint>

namespace crossdock::cuda::device {

/// The last block to end stores `value` to `flag`, which the host can read, after everything that the grid has stored.
struct Completion {
  static constexpr std::uint64_t kCalledOff = std::uint64_t{1} << 63U;

  std::uint32_t* blocks_ended = nullptr;  ///< device memory, 0 between kernels; one kernel at a time uses it
  std::uint64_t* flag = nullptr;          ///< pinned host memory; null: no one waits
  std::uint64_t value = 0;

  /// Of a grid that ends without having done what it is for.
  [[nodiscard]] constexpr Completion called_off() const noexcept { return {blocks_ended, flag, value | kCalledOff}; }
};

}  // namespace crossdock::cuda::device
