// The kernel that moves the rows of a dispatch.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>

#include "backend/cuda/device/completion.hpp"
#include "backend/cuda/device/limits.hpp"
#include "backend/cuda/device/order.hpp"
#include "backend/cuda/device/selections.hpp"

namespace crossdock::cuda::device {

/// What this rank's block of rows at one receiver looks like: addresses of its first row there, null for what does not
/// travel. Of an expanded dispatch those of the receiver's tensors.
struct Destination {
  std::byte* x = nullptr;
  std::byte* scales = nullptr;
  std::byte* topk_idx = nullptr;
  float* topk_weights = nullptr;
  std::int32_t* src_idx = nullptr;
  std::int32_t expert_begin = 0;  ///< experts of the receiver
  std::int32_t expert_count = 0;
};

/// Where rows go.
struct SendTable {
  std::uint64_t ranks = 0;    ///< bit r: rows go to rank r
  std::int64_t num_recv = 0;  ///< rows that this rank receives, if UnusedRows need it; -1: the operation failed
  Destination destinations[kMaxRanks];

  /// Of 32 bits, of the part that R ranks use.
  [[nodiscard]] static constexpr int num_words(int num_ranks) {
    const std::size_t unused = sizeof(Destination) * static_cast<std::size_t>(kMaxRanks - num_ranks);
    return static_cast<int>((sizeof(SendTable) - unused) / sizeof(std::uint32_t));
  }
};

/// Of a worst-case result: rows from SendTable::num_recv on get ids -1 and weights 0, in an expanded dispatch source
/// tokens -1 instead of ids.
struct UnusedRows {
  std::int64_t num_rows = 0;  ///< of the result; 0: there is nothing to fill
  std::byte* topk_idx = nullptr;
  float* topk_weights = nullptr;
  std::int32_t* src_idx = nullptr;
};

/// N tokens, R ranks, S scales, K top-k. Strides in bytes. At a receiver everything is packed.
struct SendArgs {
  std::int64_t num_tokens = 0;
  std::int32_t num_ranks = 0;
  std::int32_t num_topk = 0;    ///< 0: no top-k travels
  std::int32_t num_scales = 0;  ///< 0: no scales travel
  std::int32_t id_bytes = 8;    ///< 4 or 8
  std::int32_t scale_bytes = 4;
  const std::int32_t* rows = nullptr;  ///< [N, R] row of the block at each receiver, -1: none
  SelectionTable selections;           ///< instead of rows, of an expanded dispatch
  const std::byte* x = nullptr;        ///< [N, row_bytes]
  std::int64_t x_stride = 0;
  std::int64_t row_bytes = 0;
  const std::byte* scales = nullptr;  ///< [N, S]
  std::int64_t scale_row_stride = 0;
  std::int64_t scale_column_stride = 0;
  const std::byte* topk_idx = nullptr;  ///< [N, K]
  const float* topk_weights = nullptr;  ///< [N, K]
  UnusedRows unused;
  Completion completion;
};

/// Before any rank's kernels run; see load_low_latency_dispatch.
cudaError_t load_send();

/// Reads each row once and stores it to all its destinations, with its scales, local expert ids, weights and source
/// index; of an expanded dispatch with its selection's weight and without ids. Occupies at most `num_sms`
/// multiprocessors. The order is a SendTable.
cudaError_t launch_send(const SendArgs& args, const Order& order, int num_sms, cudaStream_t stream);

}  // namespace crossdock::cuda::device
