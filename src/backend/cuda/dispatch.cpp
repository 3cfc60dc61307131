#include "backend/cuda/dispatch.hpp"

#include "backend/cuda/cuda_error.hpp"
#include "backend/cuda/requests.hpp"

namespace crossdock::cuda {

void Dispatch::send(const Deadline& deadline) {
  if (request().is_cached() && !excluded().empty()) clear_absent_rows();
  node_->run(
      [&](const device::Completion& completion) {
        device::SendArgs args = make_args();
        args.completion = completion;
        check(device::launch_send(args, node_->num_sms(request().num_sms), node_->stream->get()), "dispatch: send");
      },
      deadline);
}

/// The rows of excluded ranks keep their places in the result of a cached dispatch.
void Dispatch::clear_absent_rows() const {
  const DeviceGuard guard(node_->stream->device().index);
  const auto clear = [&](const Tensor& tensor, int source) {
    const std::size_t bytes = static_cast<std::size_t>(tensor.size(1)) * size_of(tensor.dtype());
    const auto begin = static_cast<std::size_t>(handle().counts.row_begin(source, group().rank()));
    const auto rows = static_cast<std::size_t>(handle().counts.at(source, group().rank()));
    check(cudaMemsetAsync(tensor.data_as<std::byte>() + begin * bytes, 0, rows * bytes, node_->stream->get()),
          "dispatch: rows of masked ranks");
  };
  for (int source = 0; source < group().num_ranks(); ++source) {
    if (!excluded()[static_cast<std::size_t>(source)]) continue;
    clear(result().recv_x, source);
    if (result().recv_x_scales) clear(*result().recv_x_scales, source);
  }
}

device::SendArgs Dispatch::make_args() const {
  device::SendArgs args = send_args_of(request(), group().num_ranks());
  args.ranks = node_->receivers(handle().counts, excluded());
  for (int rank = 0; rank < args.num_ranks; ++rank) args.destinations[rank] = destination(rank);
  return args;
}

device::Destination Dispatch::destination(int rank) const {
  const host::Placement& placement = placements()[static_cast<std::size_t>(rank)];
  std::byte* const window = node_->data(rank);
  const std::int64_t first_row = handle().counts.row_begin(group().rank(), rank);
  const auto block = [&](std::uint64_t offset, std::size_t bytes_of_row) {
    return window + offset + static_cast<std::size_t>(first_row) * bytes_of_row;
  };
  device::Destination to;
  to.x = block(placement.x, row_bytes());
  if (const auto& scales = request().x_scales) {
    to.scales = block(placement.scales, static_cast<std::size_t>(scales->size(1)) * size_of(scales->dtype()));
  }
  if (const auto& ids = request().topk_idx) {
    const auto num_topk = static_cast<std::size_t>(ids->size(1));
    to.topk_idx = block(placement.topk_idx, num_topk * size_of(ids->dtype()));
    to.topk_weights = reinterpret_cast<float*>(block(placement.topk_weights, num_topk * sizeof(float)));
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
  const Tensor& ids = *result().recv_topk_idx;
  const Tensor& weights = *result().recv_topk_weights;
  const auto used = static_cast<std::size_t>(handle().num_recv_tokens() * ids.size(1));
  const auto all = static_cast<std::size_t>(ids.num_elements());
  constexpr int kAllOnes = 0xFF;  // every byte of -1
  check(cudaMemsetAsync(ids.data_as<std::byte>() + used * size_of(ids.dtype()), kAllOnes,
                        (all - used) * size_of(ids.dtype()), node_->stream->get()),
        "dispatch: ids of unused rows");
  check(cudaMemsetAsync(weights.data_as<float>() + used, 0, (all - used) * sizeof(float), node_->stream->get()),
        "dispatch: weights of unused rows");
}

}  // namespace crossdock::cuda
