// The device's side of completion.hpp.
#pragma once

#include "backend/cuda/device/completion.hpp"
#include "backend/cuda/device/instructions.cuh"

namespace crossdock::cuda::device {

/// True in the first thread of the block that ends last: it sees what all blocks have stored, which is for this device
/// until thread_complete is called. All threads call it.
__device__ inline bool block_is_last_here(std::uint32_t* blocks_ended) {
  __syncthreads();
  if (threadIdx.x != 0 || thread_add_here(blocks_ended, 1) + 1U != gridDim.x) return false;
  *blocks_ended = 0;
  return true;
}

/// REQUIRES: called by one thread, which knows that all blocks have ended. Release: matches the acquire of the host's
/// wait.
__device__ inline void thread_complete(const Completion& completion) {
  __threadfence_system();
  thread_set(completion.flag, completion.value);
}

/// All threads, at the end of a kernel, if someone waits for it.
__device__ inline void block_complete(const Completion& completion) {
  if (completion.flag == nullptr) return;
  __syncthreads();
  if (threadIdx.x != 0) return;
  __threadfence_system();  // the block's stores, to other devices too, come before its count
  if (atomicAdd(completion.blocks_ended, 1U) + 1U != gridDim.x) return;
  *completion.blocks_ended = 0;
  thread_complete(completion);
}

}  // namespace crossdock::cuda::device
