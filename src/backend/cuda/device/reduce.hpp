// The kernel that sums the rows of a combine.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>

#include "backend/cuda/device/completion.hpp"
#include "backend/cuda/device/limits.hpp"
#include "backend/cuda/device/selections.hpp"

namespace crossdock::cuda::device {

/// This rank's block of rows in the window of a rank that answers them.
struct Contributor {
  const std::byte* x = nullptr;  ///< first row of the block; of an expanded dispatch, of all rows
  std::int64_t stride = 0;       ///< bytes from row to row
  const float* weights = nullptr;
};

/// Who contributes.
struct ReduceTable {
  std::uint64_t ranks = 0;      ///< bit r: rank r contributes
  std::uint32_t is_failed = 0;  ///< nothing is summed
  Contributor contributors[kMaxRanks];

  [[nodiscard]] constexpr const Contributor& contributor(int rank) const { return contributors[rank]; }
};

/// The same as a kernel's argument: the less there is of it, the sooner a kernel is launched.
struct NearReduceTable {
  static constexpr int kNear = 16;

  std::uint64_t ranks = 0;
  std::uint32_t is_failed = 0;
  Contributor near[kNear];
  const Contributor* far = nullptr;  ///< of ranks from kNear on, in memory that the device can read

  [[nodiscard]] constexpr const Contributor& contributor(int rank) const {
    return rank < kNear ? near[rank] : far[rank - kNear];
  }
};

enum class Element : std::uint8_t { kBfloat16, kFloat32 };

/// N tokens, R ranks, H hidden, K top-k. Strides in bytes.
struct ReduceArgs {
  std::int64_t num_tokens = 0;
  std::int64_t hidden = 0;
  std::int32_t num_ranks = 0;
  std::int32_t num_topk = 0;  ///< 0: no weights are summed
  Element element = Element::kBfloat16;
  const std::int32_t* rows = nullptr;  ///< [N, R] row of the block of each rank, -1: none
  SelectionTable selections;           ///< instead of rows, of an expanded dispatch
  const std::byte* bias_0 = nullptr;   ///< [N, H], or null
  std::int64_t bias_0_stride = 0;
  const std::byte* bias_1 = nullptr;
  std::int64_t bias_1_stride = 0;
  std::byte* out = nullptr;      ///< [N, H], packed
  float* out_weights = nullptr;  ///< [N, K], packed
  Completion completion;
};

/// Before any rank's kernels run; see load_low_latency_dispatch.
cudaError_t load_reduce();

/// out[t] = round(0 + bias_0[t] + bias_1[t] + rows for t by ascending rank), in float32; weights likewise without
/// biases. Of an expanded dispatch rows by ascending (rank, column), and a column gets its own row's weight. A NaN
/// becomes the canonical one. `far` is pinned memory for R contributors, which the kernel may use. Occupies at most
/// `num_sms` multiprocessors.
cudaError_t launch_reduce(const ReduceArgs& args, const ReduceTable& table, Contributor* far, int num_sms,
                          cudaStream_t stream);

}  // namespace crossdock::cuda::device
