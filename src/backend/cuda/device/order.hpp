// How the host tells a kernel what to do, also one that runs already.
#pragma once

#include <cstdint>

namespace crossdock::cuda::device {

/// An order is a table of 32-bit words and, behind it, a word that says whether it is to be carried out; all stamped
/// with its number. A kernel waits for it, but not for long: then it ends without having done anything.
struct Order {
  static constexpr std::uint32_t kCarryOut = 1;
  static constexpr std::uint32_t kCallOff = 2;

  const std::uint64_t* words = nullptr;  ///< pinned host memory, for the first block
  std::uint64_t* passed_on = nullptr;    ///< device memory, for the others; one kernel at a time uses it
  std::uint64_t patience_ns = 0;
  std::uint32_t number = 0;
};

}  // namespace crossdock::cuda::device
