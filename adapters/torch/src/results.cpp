#include "results.hpp"

#include <algorithm>
#include <array>
#include <mutex>
#include <utility>

#include <ATen/ops/from_blob.h>

#include <crossdock/error.hpp>

namespace crossdock::torch {

namespace {

at::ScalarType to_torch(DataType dtype) {
  switch (dtype) {
    case DataType::kBool: return at::kBool;
    case DataType::kUint8: return at::kByte;
    case DataType::kInt8: return at::kChar;
    case DataType::kInt32: return at::kInt;
    case DataType::kInt64: return at::kLong;
    case DataType::kFloat8E4m3: return at::kFloat8_e4m3fn;
    case DataType::kFloat16: return at::kHalf;
    case DataType::kBfloat16: return at::kBFloat16;
    case DataType::kFloat32: return at::kFloat;
  }
  throw Error(ErrorCode::kUnsupported, "an unknown dtype");
}

at::Device to_torch(const Device& device) {
  if (device.type == DeviceType::kHost) return at::kCPU;
  return {at::kCUDA, static_cast<at::DeviceIndex>(device.index)};
}

}  // namespace

/// Tensors that are computed together, once.
class LazyTensor::Group {
 public:
  explicit Group(Make make) : make_(std::move(make)) {}
  [[nodiscard]] at::Tensor at(std::size_t index) {
    const std::lock_guard lock(mutex_);
    if (tensors_.empty()) tensors_ = make_();
    return tensors_.at(index);
  }

 private:
  std::mutex mutex_;
  Make make_;
  std::vector<at::Tensor> tensors_;
};

std::shared_ptr<LazyTensor::Group> LazyTensor::make_group(Make make) {
  return std::make_shared<Group>(std::move(make));
}

at::Tensor LazyTensor::get() const { return group_ ? group_->at(index_) : at::Tensor(); }

void EventOverlap::currentStreamWait() const {
  if (!event_) {
    throw Error(ErrorCode::kState, "there is no event to wait for: the operation was not called with async_finish");
  }
  event_->wait();
}

at::Tensor to_torch(const Tensor& tensor) {
  std::array<std::int64_t, Tensor::kMaxDimensions> strides{};
  const auto dimensions = static_cast<std::size_t>(tensor.dimensions());
  for (std::size_t i = 0; i < dimensions; ++i) strides[i] = tensor.stride(static_cast<int>(i));
  const auto release = [](void* owner) { delete static_cast<std::shared_ptr<void>*>(owner); };  // NOLINT
  auto owner = std::make_unique<std::shared_ptr<void>>(tensor.owner());
  const at::Device device = to_torch(tensor.device());
  at::Tensor result = at::for_blob(tensor.data(), {tensor.shape().data(), dimensions})
                          .strides(at::IntArrayRef(strides.data(), dimensions))
                          .context(owner.get(), release)
                          .target_device(device)
                          .options(at::TensorOptions().dtype(to_torch(tensor.dtype())).device(device))
                          .make_tensor();
  static_cast<void>(owner.release());  // it is the tensor's now
  return result;
}

std::optional<at::Tensor> to_torch(const std::optional<Tensor>& tensor) {
  if (!tensor) return std::nullopt;
  return to_torch(*tensor);
}

DeepEPDispatchHandle to_torch(const DispatchHandle& handle, int num_sms) {
  const auto group = LazyTensor::make_group([handle, num_sms] {
    const ParityMatrices m = handle.parity_matrices(std::max(num_sms / 2, 1));
    const at::Device device = to_torch(m.recv_src_idx.device());  // the host computes some of them
    return std::vector{to_torch(m.rank_prefix_matrix).to(device),
                       to_torch(m.channel_prefix_matrix).to(device),
                       to_torch(m.recv_channel_prefix_matrix).to(device),
                       to_torch(m.recv_src_idx),
                       to_torch(m.is_token_in_rank),
                       to_torch(m.send_head).to(device)};
  });
  const auto member = [&](std::size_t index) { return LazyTensor(group, index); };
  return {DeepEPDispatchHandleIntra{member(0), member(1), member(2), member(3), member(4), member(5), handle},
          std::nullopt};
}

DeepEPDispatchHandleLowLatency to_torch(const LowLatencyHandle& handle) {
  const auto group = LazyTensor::make_group([handle] {
    return std::vector{to_torch(handle.packed_recv_src_info()), to_torch(handle.packed_recv_layout_range())};
  });
  return {LazyTensor(group, 0), LazyTensor(group, 1), static_cast<int>(handle.num_max_dispatch_tokens_per_rank()),
          handle.num_experts(), handle};
}

std::optional<std::function<void()>> to_torch(const ReceiveHook& hook) {
  if (!hook.defined()) return std::nullopt;
  return std::function<void()>(hook);
}

}  // namespace crossdock::torch
