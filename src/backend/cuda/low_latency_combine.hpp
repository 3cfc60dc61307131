// Low-latency combine on a CUDA device: every token's owner reads its experts' rows where they lie and sums them.
#pragma once

#include <memory>

#include "backend/backend.hpp"
#include "backend/cuda/device/low_latency_combine.hpp"
#include "backend/cuda/kernel_queue.hpp"
#include "backend/cuda/node.hpp"

namespace crossdock::cuda {

class LowLatencyCombine final : public backend::ReceiveOperation {
 public:
  LowLatencyCombine(std::shared_ptr<const Node> node, const backend::LowLatencyCombineRequest& request)
      : node_(std::move(node)), request_(request) {}

  void send(const Deadline& deadline);
  void receive(const Deadline& deadline) override;
  void abandon() noexcept override;

 private:
  /// Room for the used rows if x cannot be read where it lies. How many they are only the device knows.
  void allocate();
  /// From row to row of what the others read.
  [[nodiscard]] std::int64_t row_bytes() const noexcept;
  void run(device::Phases phases, const Deadline& deadline);

  std::shared_ptr<const Node> node_;
  backend::LowLatencyCombineRequest request_;
  Launch launch_;
  Tensor staged_;
  Tensor epoch_;
};

}  // namespace crossdock::cuda
