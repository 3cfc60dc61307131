#include "backend/cuda/dispatch.hpp"

#include <vector>

#include "backend/cuda/cuda_error.hpp"
#include "backend/cuda/requests.hpp"
#include "backend/cuda/selections.hpp"

namespace crossdock::cuda {

namespace {

std::shared_ptr<OrderedSend> make_send(const Node& node, const backend::DispatchRequest& request) {
  return std::make_shared<OrderedSend>(node.stream, send_args_of(request, node.group->num_ranks()),
                                       node.num_sms(request.num_sms));
}

}  // namespace

std::shared_ptr<OrderedSend> Dispatch::launch_ahead(const Node& node, const backend::DispatchRequest& request) {
  // In an expanded one other things come first, with a worst case the counts of all.
  const bool can_be_next = !request.handle->is_expanded() && !request.num_worst_tokens;
  if (!can_be_next || !node.launches_ahead(request.completion, request.num_sms)) return nullptr;
  const DeviceGuard guard(node.stream->device().index);
  auto kernel = make_send(node, request);
  kernel->launch_ahead();
  return kernel;
}

void Dispatch::send(const Deadline& deadline) {
  node_->guarded([&] {
    // The rows of excluded ranks keep their places in the result of a cached dispatch.
    for_each_absent([this](std::int64_t begin, std::int64_t count) { clear_rows(begin, count); });
    if (handle().is_expanded()) launch_groups();
    const auto ahead = std::static_pointer_cast<OrderedSend>(request().ahead);
    (ahead ? ahead : make_send(*node_, request()))->run(make_table(), deadline);
  });
}

void Dispatch::clear_rows(std::int64_t begin, std::int64_t count) const {
  const auto clear = [&](const Tensor& tensor) {
    const std::int64_t bytes = cuda::row_bytes(tensor);
    check(cudaMemsetAsync(tensor.data_as<std::byte>() + begin * bytes, 0, static_cast<std::size_t>(count * bytes),
                          node_->stream->get()),
          "dispatch: rows of masked ranks");
  };
  if (count == 0) return;
  clear(result().recv_x);
  if (result().recv_x_scales) clear(*result().recv_x_scales);
}

void Dispatch::launch_groups() const {
  const int num_groups = experts().count(group().rank());
  if (!request().is_cached()) {
    find_selections(*node_, request(), excluded());
    std::vector<std::int32_t> ends(static_cast<std::size_t>(num_groups));
    for (int i = 0; i < num_groups; ++i) {
      const int expert = experts().begin(group().rank()) + i;
      ends[static_cast<std::size_t>(i)] =
          static_cast<std::int32_t>(handle().groups->row_begin(group().num_ranks(), expert));
    }
    const Tensor& there = handle().group_ends;
    check(cudaMemcpyAsync(there.data(), ends.data(), there.num_bytes(), cudaMemcpyHostToDevice, node_->stream->get()),
          "dispatch: ends of groups");
  }
  if (num_groups == 0 || handle().expert_alignment == 1) return;  // there is no padding
  device::PaddingArgs padding = padding_args_of(request(), result(), num_groups);
  padding.group_ends = handle().group_ends.data_as<std::int32_t>();
  check(device::launch_padding(padding, node_->num_sms(request().num_sms), node_->stream->get()), "dispatch: padding");
}

device::SendTable Dispatch::make_table() const {
  device::SendTable table;
  table.ranks = node_->receivers(handle().counts, excluded());
  for (int rank = 0; rank < group().num_ranks(); ++rank) table.destinations[rank] = destination(rank);
  return table;
}

device::Destination Dispatch::destination(int rank) const {
  const host::Placement& placement = placements()[static_cast<std::size_t>(rank)];
  std::byte* const window = node_->data(rank);
  const std::int64_t first_row = handle().first_row(group().rank(), rank);
  const auto block = [&](std::uint64_t offset, std::int64_t bytes_of_row) {
    return window + offset + first_row * bytes_of_row;
  };
  device::Destination to;
  to.x = block(placement.x, cuda::row_bytes(request().x));
  if (const auto& scales = request().x_scales) to.scales = block(placement.scales, cuda::row_bytes(*scales));
  if (request().topk_idx && handle().is_expanded()) {
    to.topk_weights = reinterpret_cast<float*>(window + placement.topk_weights);
  } else if (const auto& ids = request().topk_idx) {
    to.topk_idx = block(placement.topk_idx, cuda::row_bytes(*ids));
    to.topk_weights = reinterpret_cast<float*>(block(placement.topk_weights, cuda::row_bytes(*request().topk_weights)));
  }
  if (!request().is_cached()) {
    to.src_idx = reinterpret_cast<std::int32_t*>(block(placement.src_idx, sizeof(std::int32_t)));
  }
  to.expert_begin = experts().begin(rank);
  to.expert_count = experts().count(rank);
  return to;
}

void Dispatch::fill_unused_rows() {
  const DeviceGuard guard(node_->stream->device().index);
  constexpr int kAllOnes = 0xFF;  // every byte of -1
  if (handle().is_expanded()) {
    const auto begin = static_cast<std::size_t>(handle().groups->num_rows(group().rank()));
    const auto end = static_cast<std::size_t>(handle().num_recv_rows);
    check(cudaMemsetAsync(result().recv_topk_weights->data_as<float>() + begin, 0, (end - begin) * sizeof(float),
                          node_->stream->get()),
          "dispatch: weights of unused rows");
    check(cudaMemsetAsync(handle().recv_src_idx.data_as<std::int32_t>() + begin, kAllOnes,
                          (end - begin) * sizeof(std::int32_t), node_->stream->get()),
          "dispatch: source tokens of unused rows");
    return;
  }
  const Tensor& ids = *result().recv_topk_idx;
  const Tensor& weights = *result().recv_topk_weights;
  const auto used = static_cast<std::size_t>(handle().num_recv_tokens() * ids.size(1));
  const auto all = static_cast<std::size_t>(ids.num_elements());
  check(cudaMemsetAsync(ids.data_as<std::byte>() + used * size_of(ids.dtype()), kAllOnes,
                        (all - used) * size_of(ids.dtype()), node_->stream->get()),
        "dispatch: ids of unused rows");
  check(cudaMemsetAsync(weights.data_as<float>() + used, 0, (all - used) * sizeof(float), node_->stream->get()),
        "dispatch: weights of unused rows");
}

}  // namespace crossdock::cuda
