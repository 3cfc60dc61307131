// Low-latency dispatch on a CUDA device: one kernel stages, announces, waits and fetches, or two if a hook receives.
#pragma once

#include <memory>

#include "backend/backend.hpp"
#include "backend/cuda/device/low_latency_dispatch.hpp"
#include "backend/cuda/kernel_queue.hpp"
#include "backend/cuda/node.hpp"

namespace crossdock::cuda {

class LowLatencyDispatch final : public backend::LowLatencyDispatchOperation {
 public:
  LowLatencyDispatch(std::shared_ptr<const Node> node, const backend::LowLatencyDispatchRequest& request)
      : node_(std::move(node)), request_(request) {}

  void send(const Deadline& deadline);
  [[nodiscard]] const backend::LowLatencyDispatchResult& result() const override { return result_; }
  void receive(const Deadline& deadline) override;
  void abandon() noexcept override;

 private:
  [[nodiscard]] device::Cast cast() const noexcept;
  void allocate();
  void run(device::Phases phases, const Deadline& deadline);

  std::shared_ptr<const Node> node_;
  backend::LowLatencyDispatchRequest request_;
  Launch launch_;
  Tensor parcel_;
  Tensor scales_;  ///< [L, columns, R * M]: contiguous, the result is its transposed view
  backend::LowLatencyDispatchResult result_;
};

}  // namespace crossdock::cuda
