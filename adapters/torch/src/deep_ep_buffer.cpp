#include <crossdock/torch/deep_ep_buffer.h>

#include <algorithm>
#include <limits>
#include <string>
#include <utility>

#include <c10/core/Stream.h>
#include <c10/core/impl/VirtualGuardImpl.h>

#include <crossdock/error.hpp>

#include "arguments.hpp"

namespace crossdock::torch {

namespace {

constexpr std::int64_t kLeastArenaBytes = std::int64_t{16} << 20U;

void require(bool condition, const std::string& message) {
  if (!condition) throw Error(ErrorCode::kInvalidArgument, "DeepEPBuffer: " + message);
}

int to_int(std::size_t value, const char* name) {
  require(value <= static_cast<std::size_t>(std::numeric_limits<int>::max()),
          std::string(name) + " is " + std::to_string(value) + ", which is too large");
  return static_cast<int>(value);
}

std::shared_ptr<Bootstrap> to_bootstrap(AllGather all_gather, std::size_t rank, std::size_t size) {
  require(all_gather != nullptr, "all_gather is empty, a function is needed");
  require(rank < size, "world_rank is " + std::to_string(rank) + ", but world_size is " + std::to_string(size));
  return make_callback_bootstrap({to_int(rank, "world_rank"), to_int(size, "world_size"), std::move(all_gather)});
}

/// With the index that "cuda" alone means in this thread.
at::Device with_index(at::Device device) {
  if (!device.is_cuda() || device.has_index()) return device;
  return c10::impl::VirtualGuardImpl(device.type()).getDevice();
}

/// The stream on which torch works in this thread.
Stream current_stream(at::Device device) {
  Stream stream{to_core(device), nullptr};
  if (!device.is_cpu()) {
    stream.native = c10::impl::VirtualGuardImpl(device.type()).getStream(device).native_handle();
  }
  return stream;
}

}  // namespace

DeepEPBuffer::DeepEPBuffer(AllGather all_gather, std::size_t world_rank, std::size_t world_size,
                           std::int64_t num_nvl_bytes, std::int64_t num_rdma_bytes, bool low_latency_mode,
                           int num_qps_per_rank, at::Device device)
    : DeepEPBuffer(to_bootstrap(std::move(all_gather), world_rank, world_size), world_rank, world_size, num_nvl_bytes,
                   num_rdma_bytes, low_latency_mode, num_qps_per_rank, device) {}

DeepEPBuffer::DeepEPBuffer(std::shared_ptr<Bootstrap> bootstrap, std::size_t world_rank, std::size_t world_size,
                           std::int64_t num_nvl_bytes, std::int64_t num_rdma_bytes, bool /*low_latency_mode*/,
                           int num_qps_per_rank, at::Device device)
    : bootstrap_(std::move(bootstrap)),
      device_(with_index(device)),
      world_rank_(to_int(world_rank, "world_rank")),
      world_size_(to_int(world_size, "world_size")) {
  require(bootstrap_ != nullptr, "bootstrap is null, a group of ranks is needed");
  require(bootstrap_->rank() == world_rank_ && bootstrap_->size() == world_size_,
          "world_rank is " + std::to_string(world_rank) + " of " + std::to_string(world_size) +
              ", but the bootstrap's is " + std::to_string(bootstrap_->rank()) + " of " +
              std::to_string(bootstrap_->size()));
  require(num_nvl_bytes >= 0 && num_rdma_bytes >= 0, "num_nvl_bytes is " + std::to_string(num_nvl_bytes) +
                                                         " and num_rdma_bytes " + std::to_string(num_rdma_bytes) +
                                                         ", at least 0 is allowed");
  require(num_nvl_bytes <= std::numeric_limits<std::int64_t>::max() - num_rdma_bytes,
          "num_nvl_bytes and num_rdma_bytes together do not fit 64 bits");
  require(num_qps_per_rank > 0, "num_qps_per_rank is " + std::to_string(num_qps_per_rank) + ", at least 1 is allowed");
  require(device.is_cpu() || device.is_cuda(), "device is " + device.str() + ", cpu or cuda is allowed");
  buffer_options_.arena_bytes = static_cast<std::size_t>(std::max(num_nvl_bytes + num_rdma_bytes, kLeastArenaBytes));
  buffer_options_.device = to_core(device_);
}

bool DeepEPBuffer::init() {
  if (!isAvailable()) {
    destroy();
    buffer_.emplace(bootstrap_, buffer_options_);
  }
  return isAvailable();
}

void DeepEPBuffer::destroy() noexcept { buffer_.reset(); }

bool DeepEPBuffer::isAvailable() const noexcept { return buffer_.has_value() && buffer_->is_available(); }

Buffer& DeepEPBuffer::buffer() {
  if (!buffer_) {
    throw Error(ErrorCode::kState,
                "rank " + std::to_string(world_rank_) + ": DeepEPBuffer: init() must be called before");
  }
  return *buffer_;
}

void DeepEPBuffer::setNumSMs(std::size_t new_num_sms) {
  require(new_num_sms >= 2 && new_num_sms % 2 == 0,
          "num_sms is " + std::to_string(new_num_sms) + ", an even number of at least 2 is allowed");
  num_sms_ = to_int(new_num_sms, "num_sms");
}

std::shared_ptr<EventOverlap> DeepEPBuffer::capture() {
  return std::make_shared<EventOverlap>(buffer().capture(current_stream(device_)));
}

std::size_t DeepEPBuffer::getLowLatencyRdmaSizeHint(int num_max_dispatch_tokens_per_rank, int hidden, int num_ranks,
                                                    int num_experts) {
  return 2 * get_low_latency_rdma_size_hint(num_max_dispatch_tokens_per_rank, hidden, num_ranks, num_experts);
}

Config DeepEPBuffer::getDispatchConfig(int num_ranks) const {
  return get_dispatch_config(num_ranks == 0 ? world_size_ : num_ranks, num_sms_);
}

Config DeepEPBuffer::getCombineConfig(int num_ranks) const {
  return get_combine_config(num_ranks == 0 ? world_size_ : num_ranks, num_sms_);
}

OperationOptions DeepEPBuffer::options(const std::shared_ptr<EventOverlap>& previous_event, bool async_finish,
                                       bool allocate_on_comm_stream, bool return_recv_hook) const {
  OperationOptions options;
  if (async_finish) options.completion = Completion::kAsynchronous;
  if (return_recv_hook) options.completion = Completion::kHook;
  if (allocate_on_comm_stream) options.allocation = Allocation::kCommunicationStream;
  if (previous_event != nullptr) options.previous_event = previous_event->event();
  options.stream = current_stream(device_);
  return options;
}

}  // namespace crossdock::torch
