// The kernel of a low-latency combine.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>

#include "backend/cuda/device/completion.hpp"
#include "backend/cuda/device/low_latency_dispatch.hpp"

namespace crossdock::cuda::device {

struct LowLatencyCombineArgs {
  Party party;
  std::int32_t num_topk = 0;
  std::int32_t num_experts = 0;
  std::int32_t num_local = 0;  ///< L
  std::uint32_t is_staged = 0;
  std::uint32_t is_shared = 0;    ///< x is the caller's: it is over when all ranks have read it
  std::uint32_t use_logfmt = 0;   ///< what is staged are rows of LogFmtLayout
  std::uint32_t is_captured = 0;  ///< the parcel may be in use when the kernel begins
  std::int32_t id_bytes = 8;
  std::int64_t num_tokens = 0;
  std::int64_t hidden = 0;
  std::int64_t max_tokens = 0;
  const std::uint64_t* handle_epoch = nullptr;  ///< the dispatch's own word
  const std::byte* x = nullptr;                 ///< bfloat16 [L, R * M, H]
  std::byte* parcel = nullptr;                  ///< if is_staged: a ParcelHeader and room for the used rows of x
  std::int64_t row_bytes = 0;                   ///< from row to row of what the others read
  std::uint64_t offset = 0;                     ///< of x, or of what is staged, from the beginning of the window
  const std::int32_t* count = nullptr;          ///< [L]
  const Place* places = nullptr;                ///< [N, K]
  const float* weights = nullptr;               ///< [N, K]
  const std::byte* topk_idx = nullptr;          ///< [N, K], to be compared with the dispatch's; or null
  std::uint64_t dispatch_epoch = 0;             ///< of the dispatch, as its host counts
  std::byte* out = nullptr;                     ///< bfloat16 [N, H]
  Completion completion;
};
static_assert(sizeof(LowLatencyCombineArgs) <= 4096);

/// As load_low_latency_dispatch.
cudaError_t load_low_latency_combine();
/// Occupies at most `num_sms` multiprocessors.
cudaError_t launch_low_latency_combine(const LowLatencyCombineArgs& args, int num_sms, cudaStream_t stream);

}  // namespace crossdock::cuda::device
