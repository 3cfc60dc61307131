// Throughput combine with the handle of a worst-case dispatch: kernels on a stream, no host in between.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>

#include "backend/backend.hpp"
#include "backend/cuda/device/worst_case.hpp"
#include "backend/cuda/kernel_queue.hpp"
#include "backend/cuda/node.hpp"

namespace crossdock::cuda {

class WorstCaseCombine final : public backend::ReceiveOperation {
 public:
  WorstCaseCombine(std::shared_ptr<const Node> node, const backend::CombineRequest& request)
      : node_(std::move(node)), request_(request) {}

  /// Queues it.
  void send(const Deadline& deadline);
  void receive(const Deadline& deadline) override;
  void abandon() noexcept override {}

 private:
  [[nodiscard]] bool is_readable(const Tensor& tensor) const;
  void allocate();
  [[nodiscard]] device::HandleCounts* counts() const {
    return request_.handle->counts_on_device.data_as<device::HandleCounts>();
  }
  void stage(const Tensor& from, const Tensor& to) const;
  [[nodiscard]] device::WorstCaseArgs make_args(const Deadline& deadline) const;
  void reduce(const Deadline& deadline) const;

  std::shared_ptr<const Node> node_;
  backend::CombineRequest request_;
  Launch launch_;
  Tensor table_;
  Tensor x_;        ///< that the others read: the request's, or a copy
  Tensor weights_;  ///< likewise; not defined without weights
};

}  // namespace crossdock::cuda
