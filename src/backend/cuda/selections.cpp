#include "backend/cuda/selections.hpp"

#include <array>

#include "backend/cuda/cuda_error.hpp"
#include "backend/cuda/requests.hpp"

namespace crossdock::cuda {

void find_selections(const Node& node, const backend::DispatchRequest& request, const std::vector<bool>& excluded) {
  DispatchHandle::State& handle = *request.new_handle;
  const Tensor& ids = *request.topk_idx;
  // A rank, a row and a column for each.
  handle.send_rows = node.stream->allocate(DataType::kInt32, std::array{std::int64_t{3}, ids.size(0), ids.size(1)});

  std::vector<std::int32_t> first_rows(static_cast<std::size_t>(handle.num_experts));
  for (int e = 0; e < handle.num_experts; ++e) {
    first_rows[static_cast<std::size_t>(e)] = static_cast<std::int32_t>(handle.groups->row_begin(handle.rank, e));
  }
  const Tensor first_rows_there = node.stream->allocate(DataType::kInt32, std::array{std::int64_t{handle.num_experts}});
  check(cudaMemcpyAsync(first_rows_there.data(), first_rows.data(), first_rows_there.num_bytes(),
                        cudaMemcpyHostToDevice, node.stream->get()),
        "dispatch: first rows of experts");
  const std::int64_t blocks = device::selection_blocks(ids.num_elements());
  const Tensor scratch =
      node.stream->allocate(DataType::kInt32, std::array{std::int64_t{2}, blocks, std::int64_t{handle.num_experts}});

  device::SelectionArgs args = selection_args_of(request, handle.counts.num_ranks());
  args.ranks = node.receivers(handle.counts, excluded);
  args.first_rows = first_rows_there.data_as<std::int32_t>();
  args.block_counts = scratch.data_as<std::int32_t>();
  args.next_rows = args.block_counts + blocks * handle.num_experts;
  check(device::launch_selections(args, node.stream->get()), "dispatch: rows of selections");
}

device::SelectionArgs selection_args_of(const backend::DispatchRequest& request, int num_ranks) {
  const Tensor& ids = *request.topk_idx;
  device::SelectionArgs args;
  args.num_tokens = ids.size(0);
  args.num_experts = request.handle->num_experts;
  args.num_ranks = num_ranks;
  args.id_bytes = static_cast<std::int32_t>(size_of(ids.dtype()));
  args.topk_idx = ids.data_as<std::byte>();
  args.table = selections_of(*request.handle);
  return args;
}

device::PaddingArgs padding_args_of(const backend::DispatchRequest& request, const backend::DispatchResult& result,
                                    int num_groups) {
  device::PaddingArgs args;
  args.num_groups = num_groups;
  args.alignment = request.handle->expert_alignment;
  args.x = result.recv_x.data_as<std::byte>();
  args.row_bytes = row_bytes(result.recv_x);
  if (const auto& scales = result.recv_x_scales) {
    args.scales = scales->data_as<std::byte>();
    args.scale_row_bytes = row_bytes(*scales);
  }
  if (request.is_cached()) return args;
  args.weights = result.recv_topk_weights->data_as<float>();
  args.src_idx = request.handle->recv_src_idx.data_as<std::int32_t>();
  return args;
}

device::SelectionTable selections_of(const DispatchHandle::State& handle) {
  const std::int64_t entries = handle.send_rows.size(1) * handle.send_rows.size(2);
  auto* const rows = handle.send_rows.data_as<device::SelectionRow>();
  return {rows, reinterpret_cast<std::int32_t*>(rows + entries), static_cast<std::int32_t>(handle.send_rows.size(2))};
}

}  // namespace crossdock::cuda
