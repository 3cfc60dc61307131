// The kernels by which a rank tells others, or its host, something that is no operation.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "backend/cuda/device/completion.hpp"
#include "backend/cuda/device/party.hpp"

namespace crossdock::cuda::device {

struct RefusalArgs {
  Party party;
  std::int64_t code = 0;  ///< ErrorCode
  char reason[ControlLayout::kReasonBytes] = {};
  Completion completion;
};

/// Before any rank's kernels run; see load_low_latency_dispatch.
cudaError_t load_notices();

/// Tells the others that this rank does not do the next operation, and why.
cudaError_t launch_refusal(const RefusalArgs& args, cudaStream_t stream);

/// Instead of an operation's second half: this rank reads nothing of it.
cudaError_t launch_abandon(const Party& party, cudaStream_t stream);

/// Brings Mailbox::read_ordinal up to date.
cudaError_t launch_progress(const Party& party, const Completion& completion, cudaStream_t stream);

}  // namespace crossdock::cuda::device
