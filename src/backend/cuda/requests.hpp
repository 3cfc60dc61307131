// What a request of throughput mode tells its kernel, whoever agrees on the rest.
#pragma once

#include <cstdint>

#include <crossdock/tensor.hpp>

#include "backend/backend.hpp"
#include "backend/cuda/device/layout.hpp"
#include "backend/cuda/device/reduce.hpp"
#include "backend/cuda/device/send.hpp"

namespace crossdock::cuda {

[[nodiscard]] inline std::int64_t stride_bytes(const Tensor& tensor, int dimension) {
  return tensor.stride(dimension) * static_cast<std::int64_t>(size_of(tensor.dtype()));
}

/// Of a matrix, without what may lie between its rows.
[[nodiscard]] inline std::int64_t row_bytes(const Tensor& tensor) {
  return tensor.size(1) * static_cast<std::int64_t>(size_of(tensor.dtype()));
}

/// All but ids, scratch and what is to be written.
[[nodiscard]] device::LayoutArgs layout_args_of(std::int64_t num_tokens, int num_experts, int num_ranks);
void set_ids(device::LayoutArgs& args, const Tensor& topk_idx);
/// All but where the rows go.
[[nodiscard]] device::SendArgs send_args_of(const backend::DispatchRequest& request, int num_ranks);
/// All but who contributes.
[[nodiscard]] device::ReduceArgs reduce_args_of(const backend::CombineRequest& request, int num_ranks);

}  // namespace crossdock::cuda
