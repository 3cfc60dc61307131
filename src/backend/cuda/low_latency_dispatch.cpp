#include "backend/cuda/low_latency_dispatch.hpp"

#include <array>

#include "backend/cuda/cuda_error.hpp"
#include "backend/cuda/requests.hpp"
#include "base/error.hpp"
#include "base/logging.hpp"
#include "plan/experts.hpp"

namespace crossdock::cuda {

static_assert(sizeof(device::Place) == sizeof(LowLatencyHandle::State::Place));

device::Cast LowLatencyDispatch::cast() const noexcept {
  switch (request_.format) {
    case RowFormat::kBfloat16: return device::Cast::kNone;
    case RowFormat::kFloat8: return device::Cast::kFloat8;
    case RowFormat::kFloat8PowerOfTwo: return device::Cast::kFloat8PowerOfTwo;
    case RowFormat::kFloat8Ue8m0: return device::Cast::kFloat8Ue8m0;
  }
  return device::Cast::kNone;
}

void LowLatencyDispatch::send(const Deadline& deadline) {
  const DeviceGuard guard(node_->stream->device().index);
  launch_ = node_->queue->begin("low_latency_dispatch", request_.epoch, request_.completion, request_.stream);
  allocate();
  const bool has_hook = request_.completion == Completion::kHook;
  run(has_hook ? device::Phases::kSend : device::Phases::kBoth, deadline);
  node_->queue->keep(launch_, parcel_);
  request_.handle->is_received = !has_hook;
}

void LowLatencyDispatch::receive(const Deadline& deadline) {
  if (launch_.ticket) return node_->queue->await(launch_, deadline);
  if (request_.completion != Completion::kHook) return;
  const DeviceGuard guard(node_->stream->device().index);
  node_->queue->resume(launch_);
  run(device::Phases::kReceive, deadline);
  request_.handle->is_received = true;
}

void LowLatencyDispatch::abandon() noexcept {
  try {
    node_->queue->abandon(launch_, request_.handle->epoch_on_device);
  } catch (const std::exception& error) {
    logger().warn("rank {}: the other ranks may wait for an operation that was given up: {}", node_->group->rank(),
                  error.what());
  }
}

void LowLatencyDispatch::allocate() {
  LowLatencyHandle::State& handle = *request_.handle;
  if (handle.num_experts > device::max_low_latency_experts()) {
    throw make_error(ErrorCode::kUnsupported, "num_experts is {}; at most {} are allowed on a CUDA device",
                     handle.num_experts, device::max_low_latency_experts());
  }
  const plan::ExpertMap experts(handle.num_experts, node_->group->num_ranks());
  const std::int64_t local = experts.count(node_->group->rank());
  const std::int64_t places = node_->group->num_ranks() * handle.max_tokens;
  const bool is_float8 = request_.format != RowFormat::kBfloat16;
  const device::ParcelLayout parcel(handle.num_tokens, handle.hidden, cast(), handle.num_topk);
  const DataType scale_dtype = request_.format == RowFormat::kFloat8Ue8m0 ? DataType::kInt32 : DataType::kFloat32;

  const std::array x_shape{local, places, handle.hidden};
  const std::array count_shape{local};
  const std::array src_info_shape{local, places};
  const std::array range_shape{local, std::int64_t{node_->group->num_ranks()}};
  const std::array scales_shape{local, parcel.scale_words(), places};
  const std::array parcel_shape{parcel.bytes()};
  const std::array routing_shape{handle.num_tokens * handle.num_topk, std::int64_t{sizeof(device::Place)}};
  const std::array epoch_shape{std::int64_t{1}};
  const std::array wanted{
      host::WantedTensor{&result_.x, is_float8 ? DataType::kFloat8E4m3 : DataType::kBfloat16, x_shape},
      host::WantedTensor{&handle.count, DataType::kInt32, count_shape},
      host::WantedTensor{&handle.src_info, DataType::kInt32, src_info_shape},
      host::WantedTensor{&handle.layout_range, DataType::kInt64, range_shape},
      host::WantedTensor{&handle.places_on_device, DataType::kUint8, routing_shape},
      host::WantedTensor{&handle.epoch_on_device, DataType::kInt64, epoch_shape},
      host::WantedTensor{&parcel_, DataType::kUint8, parcel_shape, host::SlabUse::kStaged},
      host::WantedTensor{&scales_, scale_dtype, scales_shape},  // without columns it takes no room
  };
  node_->queue->allocate(launch_, wanted);
  handle.memory = launch_.captured;
  if (!is_float8) return;
  result_.scales = Tensor::own(scales_.owner(), scales_.data(), scale_dtype,
                               std::array{local, places, parcel.scale_words()}, scales_.device())
                       .with_strides({parcel.scale_words() * places, 1, places});
}

void LowLatencyDispatch::run(device::Phases phases, const Deadline& deadline) {
  const LowLatencyHandle::State& handle = *request_.handle;
  device::LowLatencyDispatchArgs args;
  args.party = node_->queue->party(launch_, phases, handle.epoch_on_device, deadline.timeout(), request_.wait_costs);
  args.cast = cast();
  args.num_topk = handle.num_topk;
  args.num_experts = handle.num_experts;
  args.id_bytes = static_cast<std::int32_t>(size_of(request_.topk_idx.dtype()));
  args.num_tokens = handle.num_tokens;
  args.hidden = handle.hidden;
  args.max_tokens = handle.max_tokens;
  args.is_captured = launch_.captured ? 1 : 0;
  args.x = request_.x.data_as<std::byte>();
  args.x_stride = stride_bytes(request_.x, 0);
  args.topk_idx = request_.topk_idx.data_as<std::byte>();
  args.parcel = parcel_.data_as<std::byte>();
  args.recv_x = result_.x.data_as<std::byte>();
  if (scales_.num_elements() > 0) args.scales = scales_.data_as<std::uint32_t>();
  args.count = handle.count.data_as<std::int32_t>();
  args.src_info = handle.src_info.data_as<std::int32_t>();
  args.layout_range = handle.layout_range.data_as<std::int64_t>();
  args.places = handle.places_on_device.data_as<device::Place>();
  if (request_.statistics) args.statistics = request_.statistics->data_as<std::int32_t>();
  args.completion = launch_.completion();
  check(device::launch_low_latency_dispatch(args, node_->queue->num_sms(), launch_.stream), "low_latency_dispatch");
  node_->queue->note_launched(launch_);
}

}  // namespace crossdock::cuda
