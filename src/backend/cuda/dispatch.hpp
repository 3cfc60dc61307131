// Throughput dispatch of rows on a device: the host's control plane, rows moved by one kernel.
#pragma once

#include <memory>

#include "backend/cuda/device/send.hpp"
#include "backend/cuda/node.hpp"
#include "backend/cuda/ordered_send.hpp"
#include "backend/host/dispatch.hpp"

namespace crossdock::cuda {

class Dispatch final : public host::Dispatch {
 public:
  Dispatch(std::shared_ptr<const Node> node, const backend::DispatchRequest& request)
      : host::Dispatch(node->group, request), node_(std::move(node)) {}

  /// For DispatchRequest::ahead.
  [[nodiscard]] static std::shared_ptr<OrderedSend> launch_ahead(const Node& node,
                                                                 const backend::DispatchRequest& request);

 private:
  void send(const Deadline& deadline) override;
  void fill_unused_rows() override;
  void route_selections() override {}  // kernels do, when rows are sent
  void clear_rows(std::int64_t begin, std::int64_t count) const;
  /// Queues what an expanded dispatch needs besides sending rows.
  void launch_groups() const;
  [[nodiscard]] device::SendTable make_table() const;
  [[nodiscard]] device::Destination destination(int rank) const;

  std::shared_ptr<const Node> node_;
};

}  // namespace crossdock::cuda
