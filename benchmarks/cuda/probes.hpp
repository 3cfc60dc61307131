// Kernels that do one thing, to see what it costs.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>

#include "backend/cuda/device/completion.hpp"
#include "backend/cuda/device/order.hpp"

namespace crossdock::limits {

/// Does nothing but answer. With `has_many` arguments it has 3.3 KB of them.
cudaError_t launch_empty(bool has_many, int num_sms, const cuda::device::Completion& completion, cudaStream_t stream);

/// Answers when it has an order of kOrderWords words.
inline constexpr int kOrderWords = 28;
cudaError_t launch_waiting(const cuda::device::Order& order, int num_sms, const cuda::device::Completion& completion,
                           cudaStream_t stream);

/// Bytes, a multiple of 16, from one place to another.
struct CopyProbe {
  const std::byte* from = nullptr;
  std::byte* to = nullptr;
  std::int64_t bytes = 0;
  int piece_bytes = 0;  ///< of bulk copies
  int num_fetches = 0;  ///< the same, that a block has in flight at once; as many stages again are put
  int num_copies = 1;   ///< each piece that is read is stored so often, one behind the other
};

/// By loads and stores: a warp moves 2 KiB at a time.
cudaError_t launch_plain_copy(const CopyProbe& probe, int num_sms, cudaStream_t stream);
/// By bulk copies, where there are such.
cudaError_t launch_bulk_copy(const CopyProbe& probe, int num_sms, cudaStream_t stream);

}  // namespace crossdock::limits
