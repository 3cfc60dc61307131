// Throughput combine of rows on a device: the host's control plane, rows summed by one kernel.
#pragma once

#include "backend/cuda/device/reduce.hpp"
#include "backend/cuda/node.hpp"
#include "backend/host/combine.hpp"

namespace crossdock::cuda {

class Combine final : public host::Combine {
 public:
  Combine(const Node& node, const backend::CombineRequest& request)
      : host::Combine(*node.group, request), node_(node) {}

 private:
  void copy_rows(const Tensor& from, const Tensor& to, const Deadline& deadline) override;
  void reduce(const Deadline& deadline) override;
  [[nodiscard]] device::ReduceTable make_table() const;
  [[nodiscard]] device::Contributor contributor(int rank) const;

  const Node& node_;
};

}  // namespace crossdock::cuda
