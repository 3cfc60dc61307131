// What a puppet rank does on its device.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "backend/cuda/device/worst_case.hpp"

namespace crossdock::testing {

/// Of a dispatch with a worst case in which the rank has no tokens. In this order, but for kGiveUp and kStore.
enum class PuppetStep : std::uint8_t {
  kAnnounce,
  kAwaitOthers,  ///< reads where they take rows
  kStore,        ///< rubbish over the first bytes of what the others receive
  kSend,         ///< says that its rows are sent
  kStop,         ///< says that it stores nothing any more; the next step is of the next operation
  kGiveUp,       ///< gives a rank up that has announced and not sent
  kAwaitRank,    ///< until that rank has announced
};

struct PuppetArgs {
  cuda::device::WorstCaseArgs operation;
  std::uint64_t* others = nullptr;  ///< [R] device memory: where they take rows, from the beginning of their windows
  std::int64_t bytes = 0;           ///< of rubbish
  int other = 0;                    ///< the rank that kGiveUp and kAwaitRank are about
};

/// Returns when the step is done.
void run_puppet_step(const PuppetArgs& args, PuppetStep step, cudaStream_t stream);

}  // namespace crossdock::testing
