// The kernel that stages rows.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>

#include "backend/cuda/device/completion.hpp"

namespace crossdock::cuda::device {

/// Rows [0, num_rows) without [skip_begin, skip_begin + skip_count).
struct CopyRows {
  std::int64_t num_rows = 0;
  std::int64_t skip_begin = 0;
  std::int64_t skip_count = 0;

  /// Of those that are left.
  [[nodiscard]] constexpr std::int64_t row_of(std::int64_t index) const {
    return index < skip_begin ? index : index + skip_count;
  }
};

struct CopyArgs {
  CopyRows rows;
  const CopyRows* rows_on_device = nullptr;  ///< instead of rows
  std::int64_t row_bytes = 0;
  const std::byte* from = nullptr;
  std::int64_t stride = 0;  ///< bytes from row to row of the source
  std::byte* to = nullptr;  ///< packed
  Completion completion;
};

/// Before any rank's kernels run; see load_low_latency_dispatch.
cudaError_t load_copy();

/// Rows keep their numbers; what is to be left out may be copied too. Occupies at most `num_sms` multiprocessors of a
/// device that `num_sharers` ranks use.
cudaError_t launch_copy(const CopyArgs& args, int num_sms, int num_sharers, cudaStream_t stream);

}  // namespace crossdock::cuda::device
