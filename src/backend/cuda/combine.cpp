#include "backend/cuda/combine.hpp"

#include "backend/cuda/cuda_error.hpp"
#include "backend/cuda/device/copy.hpp"
#include "backend/cuda/requests.hpp"

namespace crossdock::cuda {

void Combine::copy_rows(const Tensor& from, const Tensor& to, const Deadline& deadline) {
  device::CopyArgs args;
  args.rows = {.num_rows = from.size(0)};
  if (from.data() == request().x.data() && !request().handle->is_expanded()) {
    const plan::CountMatrix& counts = request().handle->counts;
    args.rows.skip_begin = counts.row_begin(group().rank(), group().rank());  // this rank reads its own where they are
    args.rows.skip_count = counts.at(group().rank(), group().rank());
  }
  args.row_bytes = row_bytes(from);
  args.from = from.data_as<std::byte>();
  args.stride = stride_bytes(from, 0);
  args.to = to.data_as<std::byte>();
  const auto launch = [&](const CommunicationStream::Ticket& ticket) {
    args.completion = ticket.completion;
    check(device::launch_copy(args, node_.num_sms(request().num_sms), node_.num_sharers, node_.stream->get()),
          "combine: staging");
  };
  node_.guarded([&] { node_.stream->run(launch, deadline); });
}

void Combine::reduce(const Deadline& deadline) {
  const auto launch = [&](const CommunicationStream::Ticket& ticket) {
    device::ReduceArgs args = reduce_args_of(request(), group().num_ranks());
    args.completion = ticket.completion;
    auto* const far = reinterpret_cast<device::Contributor*>(ticket.order);
    check(device::launch_reduce(args, make_table(), far, node_.num_sms(request().num_sms), node_.stream->get()),
          "combine: sums");
  };
  node_.guarded([&] { node_.stream->run(launch, deadline); });
}

device::ReduceTable Combine::make_table() const {
  device::ReduceTable table;
  table.ranks = node_.receivers(request().handle->counts, excluded());
  for (int rank = 0; rank < group().num_ranks(); ++rank) table.contributors[rank] = contributor(rank);
  return table;
}

device::Contributor Combine::contributor(int rank) const {
  const Contribution& announced = contribution(rank);
  const std::int64_t first_row = request().handle->first_row(group().rank(), rank);
  const std::byte* const window = node_.data(rank);
  const Tensor& own = request().x;
  const bool is_own = rank == group().rank();
  device::Contributor from;
  from.stride = is_own ? stride_bytes(own, 0) : static_cast<std::int64_t>(announced.x_stride);
  from.x = (is_own ? own.data_as<std::byte>() : window + announced.x_offset) + first_row * from.stride;
  if (request().topk_weights) {
    from.weights =
        reinterpret_cast<const float*>(window + announced.weights_offset) + first_row * request().topk_weights->size(1);
  }
  return from;
}

}  // namespace crossdock::cuda
