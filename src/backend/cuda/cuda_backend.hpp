// The backend for ranks whose tensors lie on CUDA devices of one host.
#pragma once

#include <memory>

#include "backend/backend.hpp"
#include "backend/cuda/node.hpp"

namespace crossdock::cuda {

/// What ranks say to each other is the host backend's.
class CudaBackend final : public host::HostBackend {
 public:
  explicit CudaBackend(std::shared_ptr<const Node> node) : HostBackend(node->group), node_(std::move(node)) {}

  [[nodiscard]] std::unique_ptr<backend::DispatchOperation> start_dispatch(const backend::DispatchRequest& request,
                                                                           const Deadline& deadline) override;
  Buffer::PhaseTimes combine(const backend::CombineRequest& request, const Deadline& deadline) override;
  [[nodiscard]] std::shared_ptr<backend::LowLatencyDispatchOperation> send_low_latency_dispatch(
      backend::LowLatencyDispatchRequest request, const Deadline& deadline) override;
  [[nodiscard]] std::shared_ptr<backend::ReceiveOperation> send_low_latency_combine(
      backend::LowLatencyCombineRequest request, const Deadline& deadline) override;

 private:
  std::shared_ptr<const Node> node_;
};

}  // namespace crossdock::cuda
