// Kernels on the CPU: each thread of a block is a fiber, each block runs on an operating system's thread of its own.
#pragma once

#include <vector_types.h>

#include <cstddef>
#include <cstdint>
#include <functional>

namespace crossdock::emulator {

inline constexpr unsigned kWarpLanes = 32;
inline constexpr unsigned kAllLanes = 0xFFFFFFFFU;

struct Shape {
  dim3 grid;
  dim3 block;
  std::size_t shared_bytes = 0;
};

/// What the CUDA thread that runs now is.
struct Place {
  uint3 thread{};
  uint3 block{};
  dim3 block_dim{};
  dim3 grid_dim{};
};
[[nodiscard]] const Place& place() noexcept;

/// Runs all blocks and returns when they have ended. Blocks begin in order; 64 of them run at a time.
void run_kernel(const Shape& shape, const std::function<void()>& body);

// For kernels. All but poll meet others, which must come too.

/// Dynamic shared memory of the block.
[[nodiscard]] void* dynamic_shared() noexcept;

/// Waits for all threads of the block that have not ended; returns the bits that any of them and that all of them gave.
struct Votes {
  unsigned any;
  unsigned all;
};
Votes meet_block(unsigned vote);

/// Waits for the lanes of the mask; returns what each lane gave. Valid until this lane meets them again.
const std::uint64_t* meet_lanes(unsigned mask, std::uint64_t value);

/// Lets others run: something was looked at that may not be there yet.
void poll();

}  // namespace crossdock::emulator
