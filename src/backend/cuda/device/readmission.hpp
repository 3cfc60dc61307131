// The kernel by which masks change and a rank comes back.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "backend/cuda/device/party.hpp"

namespace crossdock::cuda::device {

/// Epochs that are left out for each rank that comes back: what it wrote before, by itself, is then behind everything
/// that is written after. A rank is never more than the slots ahead of the others.
inline constexpr std::uint64_t kEpochsLeftOut = 2 * kSlots;

struct ReadmissionArgs {
  Party party;
  std::uint64_t masked = 0;    ///< bit r: goes without rank r from now on
  std::uint64_t admitted = 0;  ///< bit r: rank r comes back, and is told with which epoch
  bool comes_back = false;     ///< this rank does, and was told
};

/// Before any rank's kernels run; see load_low_latency_dispatch.
cudaError_t load_readmission();

/// REQUIRES: between two operations, all of which have ended on this rank.
cudaError_t launch_readmission(const ReadmissionArgs& args, cudaStream_t stream);

}  // namespace crossdock::cuda::device
