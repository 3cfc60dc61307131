#include "backend/cuda/requests.hpp"

#include "backend/cuda/selections.hpp"

namespace crossdock::cuda {

namespace {

/// Of an operation's kernel, device::SendArgs or device::ReduceArgs.
template <class Args>
void set_rows(Args& args, const DispatchHandle::State& handle) {
  if (handle.is_expanded()) {
    args.selections = selections_of(handle);
  } else {
    args.rows = handle.send_rows.data_as<std::int32_t>();
  }
}

}  // namespace

device::LayoutArgs layout_args_of(std::int64_t num_tokens, int num_experts, int num_ranks) {
  device::LayoutArgs args;
  args.num_tokens = num_tokens;
  args.num_experts = num_experts;
  args.num_ranks = num_ranks;
  args.small = num_experts / num_ranks;
  args.num_large = num_experts % num_ranks;
  return args;
}

void set_ids(device::LayoutArgs& args, const Tensor& topk_idx) {
  args.topk_idx = topk_idx.data_as<std::byte>();
  args.num_topk = static_cast<std::int32_t>(topk_idx.size(1));
  args.id_bytes = static_cast<std::int32_t>(size_of(topk_idx.dtype()));
}

device::SendArgs send_args_of(const backend::DispatchRequest& request, int num_ranks) {
  device::SendArgs args;
  args.num_tokens = request.handle->num_tokens;
  args.num_ranks = num_ranks;
  set_rows(args, *request.handle);
  args.x = request.x.data_as<std::byte>();
  args.x_stride = stride_bytes(request.x, 0);
  args.row_bytes = row_bytes(request.x);
  if (request.x_scales) {
    args.num_scales = static_cast<std::int32_t>(request.x_scales->size(1));
    args.scale_bytes = static_cast<std::int32_t>(size_of(request.x_scales->dtype()));
    args.scales = request.x_scales->data_as<std::byte>();
    args.scale_row_stride = stride_bytes(*request.x_scales, 0);
    args.scale_column_stride = stride_bytes(*request.x_scales, 1);
  }
  if (request.topk_idx) args.topk_weights = request.topk_weights->data_as<float>();
  if (request.topk_idx && !request.handle->is_expanded()) {
    args.num_topk = static_cast<std::int32_t>(request.topk_idx->size(1));
    args.id_bytes = static_cast<std::int32_t>(size_of(request.topk_idx->dtype()));
    args.topk_idx = request.topk_idx->data_as<std::byte>();
  }
  return args;
}

device::ReduceArgs reduce_args_of(const backend::CombineRequest& request, int num_ranks) {
  device::ReduceArgs args;
  args.num_tokens = request.handle->num_tokens;
  args.hidden = request.out.size(1);
  args.num_ranks = num_ranks;
  args.element = request.x.dtype() == DataType::kBfloat16 ? device::Element::kBfloat16 : device::Element::kFloat32;
  set_rows(args, *request.handle);
  if (request.bias_0) {
    args.bias_0 = request.bias_0->data_as<std::byte>();
    args.bias_0_stride = stride_bytes(*request.bias_0, 0);
  }
  if (request.bias_1) {
    args.bias_1 = request.bias_1->data_as<std::byte>();
    args.bias_1_stride = stride_bytes(*request.bias_1, 0);
  }
  args.out = request.out.data_as<std::byte>();
  if (request.topk_weights) {
    args.num_topk = static_cast<std::int32_t>(request.out_weights->size(1));
    args.out_weights = request.out_weights->data_as<float>();
  }
  return args;
}

}  // namespace crossdock::cuda
