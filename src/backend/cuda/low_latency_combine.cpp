#include "backend/cuda/low_latency_combine.hpp"

#include <array>

#include "backend/cuda/cuda_error.hpp"
#include "backend/cuda/device/logfmt_layout.hpp"
#include "base/logging.hpp"

namespace crossdock::cuda {

namespace {

constexpr std::uint64_t kAccessBytes = 16;  // the widest, of whose multiples the others' kernels rely

}  // namespace

void LowLatencyCombine::send(const Deadline& deadline) {
  const DeviceGuard guard(node_->stream->device().index);
  launch_ = node_->queue->begin("low_latency_combine", request_.epoch, request_.completion, request_.stream);
  allocate();
  run(request_.completion == Completion::kHook ? device::Phases::kSend : device::Phases::kBoth, deadline);
  if (staged_.defined()) node_->queue->keep(launch_, staged_);
  if (request_.zero_copy) node_->queue->keep(launch_, request_.x);
  if (!launch_.captured || request_.handle->memory == launch_.captured) return;
  launch_.captured->keep(request_.handle);
  if (request_.zero_copy) launch_.captured->keep(request_.x.owner());
}

void LowLatencyCombine::receive(const Deadline& deadline) {
  if (launch_.ticket) return node_->queue->await(launch_, deadline);
  if (request_.completion != Completion::kHook) return;
  const DeviceGuard guard(node_->stream->device().index);
  node_->queue->resume(launch_);
  run(device::Phases::kReceive, deadline);
}

void LowLatencyCombine::abandon() noexcept {
  try {
    node_->queue->abandon(launch_, epoch_);
  } catch (const std::exception& error) {
    logger().warn("rank {}: the other ranks may wait for an operation that was given up: {}", node_->group->rank(),
                  error.what());
  }
}

void LowLatencyCombine::allocate() {
  const auto offset = node_->group->arena->offset_of(request_.x.data(), request_.x.num_bytes());
  const bool is_staged = request_.use_logfmt || !offset || *offset % kAccessBytes != 0;
  const std::array epoch_shape{std::int64_t{1}};
  const std::int64_t rows_bytes = request_.x.size(0) * request_.x.size(1) * row_bytes();
  const std::array staged_shape{is_staged ? device::ParcelHeader::kBytes + rows_bytes : 0};
  const std::array wanted{
      host::WantedTensor{&epoch_, DataType::kInt64, epoch_shape},
      host::WantedTensor{&staged_, DataType::kUint8, staged_shape, host::SlabUse::kStaged},
  };
  node_->queue->allocate(launch_, wanted);
  if (!is_staged) staged_ = {};
}

std::int64_t LowLatencyCombine::row_bytes() const noexcept {
  const std::int64_t hidden = request_.handle->hidden;
  return request_.use_logfmt ? device::LogFmtLayout(hidden).row_bytes()
                             : hidden * static_cast<std::int64_t>(size_of(DataType::kBfloat16));
}

void LowLatencyCombine::run(device::Phases phases, const Deadline& deadline) {
  const LowLatencyHandle::State& handle = *request_.handle;
  device::LowLatencyCombineArgs args;
  args.party = node_->queue->party(launch_, phases, epoch_, deadline.timeout(), request_.wait_costs);
  args.num_topk = handle.num_topk;
  args.num_experts = handle.num_experts;
  args.num_local = static_cast<std::int32_t>(handle.count.size(0));
  args.is_staged = staged_.defined() ? 1 : 0;
  args.is_shared = !staged_.defined() && !request_.zero_copy ? 1 : 0;
  args.use_logfmt = request_.use_logfmt ? 1 : 0;
  args.num_tokens = handle.num_tokens;
  args.hidden = handle.hidden;
  args.max_tokens = handle.max_tokens;
  args.handle_epoch = handle.epoch_on_device.data_as<std::uint64_t>();
  args.x = request_.x.data_as<std::byte>();
  const std::byte* rows = args.x;
  if (staged_.defined()) {
    args.parcel = staged_.data_as<std::byte>();
    args.is_captured = launch_.captured ? 1 : 0;
    rows = args.parcel + device::ParcelHeader::kBytes;
  }
  args.row_bytes = row_bytes();
  args.offset = static_cast<std::uint64_t>(rows - node_->window(node_->group->rank()));
  args.count = handle.count.data_as<std::int32_t>();
  args.places = handle.places_on_device.data_as<device::Place>();
  args.weights = request_.topk_weights.data_as<float>();
  if (request_.topk_idx) {
    args.topk_idx = request_.topk_idx->data_as<std::byte>();
    args.id_bytes = static_cast<std::int32_t>(size_of(request_.topk_idx->dtype()));
    args.dispatch_epoch = handle.epoch;
  }
  args.out = request_.out.data_as<std::byte>();
  args.completion = launch_.completion();
  check(device::launch_low_latency_combine(args, node_->queue->num_sms(), launch_.stream), "low_latency_combine");
  node_->queue->note_launched(launch_);
}

}  // namespace crossdock::cuda
