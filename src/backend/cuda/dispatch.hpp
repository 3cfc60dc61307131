// Throughput dispatch of rows on a device: the host's control plane, rows moved by one kernel.
#pragma once

#include <memory>

#include "backend/cuda/device/send.hpp"
#include "backend/cuda/node.hpp"
#include "backend/host/dispatch.hpp"

namespace crossdock::cuda {

class Dispatch final : public host::Dispatch {
 public:
  Dispatch(std::shared_ptr<const Node> node, const backend::DispatchRequest& request)
      : host::Dispatch(node->group, request), node_(std::move(node)) {}

 private:
  void send(const Deadline& deadline) override;
  void fill_unused_rows() override;
  void clear_absent_rows() const;
  [[nodiscard]] device::SendArgs make_args() const;
  [[nodiscard]] device::Destination destination(int rank) const;

  std::shared_ptr<const Node> node_;
};

}  // namespace crossdock::cuda
