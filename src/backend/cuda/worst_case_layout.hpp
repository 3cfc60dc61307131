// Counting where tokens go without the host.
#pragma once

#include <array>
#include <cstdint>
#include <optional>

#include <crossdock/layout.hpp>
#include <crossdock/tensor.hpp>
#include <crossdock/types.hpp>

#include "backend/cuda/device/layout.hpp"
#include "backend/cuda/kernel_queue.hpp"
#include "backend/cuda/node.hpp"

namespace crossdock::cuda {

/// The counter of one operation: its own scratch, and what the node's operations share.
class WorstCaseLayout {
 public:
  /// For N tokens; nothing for an operation that does not count. What is wanted must be allocated before launch(), and
  /// the object stay where it is until then.
  WorstCaseLayout(const Node& node, std::optional<std::int64_t> num_tokens);

  [[nodiscard]] host::WantedTensor wanted_masks() { return {&masks_, DataType::kInt64, masks_shape_}; }
  [[nodiscard]] host::WantedTensor wanted_block_counts() { return {&block_counts_, DataType::kInt32, blocks_shape_}; }

  /// Counts `topk_idx` on the stream. `args` is of layout_args_of, and says what is to be written.
  void launch(const Node& node, const Tensor& topk_idx, device::LayoutArgs args, cudaStream_t stream) const;

 private:
  std::array<std::int64_t, 1> masks_shape_;
  std::array<std::int64_t, 1> blocks_shape_;
  Tensor masks_;
  Tensor block_counts_;
};

/// As Buffer::get_dispatch_layout, in the order of the caller's stream. An id that is not allowed is found by the
/// dispatch.
[[nodiscard]] DispatchLayout compute_worst_case_layout(const Node& node, const Tensor& topk_idx, int num_experts,
                                                       const Stream& caller);

}  // namespace crossdock::cuda
