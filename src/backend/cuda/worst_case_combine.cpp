#include "backend/cuda/worst_case_combine.hpp"

#include <array>

#include "backend/cuda/cuda_error.hpp"
#include "backend/cuda/device/copy.hpp"
#include "backend/cuda/device/row_access.hpp"
#include "backend/cuda/requests.hpp"
#include "base/error.hpp"

namespace crossdock::cuda {

namespace {

/// Bytes from the first element to the last of a tensor whose rows are contiguous.
std::size_t extent_bytes(const Tensor& tensor) {
  if (tensor.num_elements() == 0) return 0;
  return static_cast<std::size_t>((tensor.size(0) - 1) * stride_bytes(tensor, 0) + row_bytes(tensor));
}

}  // namespace

void WorstCaseCombine::send(const Deadline& deadline) {
  const DeviceGuard guard(node_->stream->device().index);
  launch_ = node_->queue->begin("combine", request_.epoch, request_.completion, request_.stream);
  allocate();
  if (x_.data() != request_.x.data()) stage(request_.x, x_);
  if (request_.topk_weights && weights_.data() != request_.topk_weights->data())
    stage(*request_.topk_weights, weights_);
  reduce(deadline);
  node_->queue->note_launched(launch_);
  if (!launch_.captured) return;
  launch_.captured->keep(request_.handle);
  launch_.captured->keep(request_.out.owner());
  if (request_.out_weights) launch_.captured->keep(request_.out_weights->owner());
}

void WorstCaseCombine::receive(const Deadline& deadline) {
  if (launch_.ticket) node_->queue->await(launch_, deadline);
}

/// The others read every row with accesses of as many bytes as divide a row, whatever this rank's tensor is like.
bool WorstCaseCombine::is_readable(const Tensor& tensor) const {
  const auto bytes = static_cast<std::uint64_t>(device::access_bytes({static_cast<std::uint64_t>(row_bytes(tensor))}));
  const auto offset = node_->group->arena->offset_of(tensor.data(), extent_bytes(tensor));
  return offset && *offset % bytes == 0 && static_cast<std::uint64_t>(stride_bytes(tensor, 0)) % bytes == 0;
}

void WorstCaseCombine::allocate() {
  const bool stages_x = !is_readable(request_.x);
  const bool stages_weights = request_.topk_weights && !is_readable(*request_.topk_weights);
  const std::array table_shape{std::int64_t{sizeof(device::ReduceTable)}};
  const std::array x_shape{stages_x ? request_.x.size(0) : 0, request_.x.size(1)};
  const std::array weights_shape{stages_weights ? request_.topk_weights->size(0) : 0,
                                 request_.topk_weights ? request_.topk_weights->size(1) : 0};
  // Of a capture all are used again in the order of the stream; else see Combine::stage.
  const auto use = launch_.captured ? host::SlabUse::kResult : host::SlabUse::kStaged;
  const std::array wanted{
      host::WantedTensor{&table_, DataType::kUint8, table_shape},
      host::WantedTensor{&x_, request_.x.dtype(), x_shape, use},
      host::WantedTensor{&weights_, DataType::kFloat32, weights_shape},
  };
  node_->queue->allocate(launch_, wanted);
  if (!stages_x) x_ = request_.x;
  if (request_.topk_weights && !stages_weights) weights_ = *request_.topk_weights;
}

/// The rows that were received, but for those that this rank sent to itself.
void WorstCaseCombine::stage(const Tensor& from, const Tensor& to) const {
  device::CopyArgs args;
  args.rows_on_device = &counts()->received;
  args.row_bytes = row_bytes(from);
  args.from = from.data_as<std::byte>();
  args.stride = stride_bytes(from, 0);
  args.to = to.data_as<std::byte>();
  check(device::launch_copy(args, node_->num_sms(request_.num_sms), node_->num_sharers, launch_.stream),
        "combine: staging");
}

device::WorstCaseArgs WorstCaseCombine::make_args(const Deadline& deadline) const {
  device::WorstCaseArgs args;
  args.party = node_->queue->party(launch_, device::Phases::kBoth, {}, deadline.timeout(), request_.wait_costs);
  args.kind = device::OperationKind::kWorstCaseCombine;
  args.num_topk = -1;
  args.dtypes = static_cast<std::uint32_t>(request_.x.dtype());
  args.num_scales = -1;
  args.num_tokens = request_.out.size(0);
  args.hidden = request_.x.size(1);
  args.extent = stride_bytes(x_, 0);
  args.placement.x = node_->offset_of(x_);
  args.handle = counts();
  args.groups.alignment = request_.handle->expert_alignment;
  args.reduce = table_.data_as<device::ReduceTable>();
  args.own_x = request_.x.data_as<std::byte>();
  args.own_stride = stride_bytes(request_.x, 0);
  if (request_.topk_weights) {
    args.num_topk = static_cast<std::int32_t>(request_.topk_weights->size(1));
    args.placement.topk_weights = node_->offset_of(weights_);
    args.own_weights = request_.topk_weights->data_as<float>();
  }
  args.completion = launch_.completion();
  return args;
}

void WorstCaseCombine::reduce(const Deadline& deadline) const {
  const device::ReduceArgs rows = reduce_args_of(request_, node_->group->num_ranks());
  const int row_access = device::access_bytes({reinterpret_cast<std::uint64_t>(request_.x.data()),
                                               static_cast<std::uint64_t>(stride_bytes(request_.x, 0)),
                                               static_cast<std::uint64_t>(row_bytes(request_.x))});
  const int num_sms = node_->num_waiting_sms(request_.num_sms);
  check(device::launch_worst_case_combine(make_args(deadline), rows, row_access, num_sms, launch_.stream), "combine");
}

}  // namespace crossdock::cuda
