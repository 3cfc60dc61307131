// What the library returns on its way out: wrapped as torch tensors without a copy.
#pragma once

#include <memory>
#include <optional>

#include <crossdock/torch/deep_ep_defs.h>
#include <crossdock/tensor.hpp>

namespace crossdock::torch {

/// The same memory; its owner lives as long as the torch tensor and its views.
[[nodiscard]] at::Tensor to_torch(const Tensor& tensor);
[[nodiscard]] std::optional<at::Tensor> to_torch(const std::optional<Tensor>& tensor);

[[nodiscard]] DeepEPDispatchHandle to_torch(const DispatchHandle& handle, int num_sms);
[[nodiscard]] DeepEPDispatchHandleLowLatency to_torch(const LowLatencyHandle& handle);
[[nodiscard]] std::optional<std::function<void()>> to_torch(const ReceiveHook& hook);

}  // namespace crossdock::torch
