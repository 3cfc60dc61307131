// What a rank of a host buffer does by itself.
#pragma once

#include <memory>

#include "backend/local_device.hpp"
#include "core/host_pool.hpp"

namespace crossdock {

class HostDevice final : public backend::LocalDevice {
 public:
  explicit HostDevice(const Topology& topology) : topology_(topology) {}

  [[nodiscard]] Tensor allocate(DataType dtype, std::span<const std::int64_t> shape) override {
    return pool_->allocate(dtype, shape);
  }
  [[nodiscard]] DispatchLayout compute_layout(const Tensor& topk_idx, int num_experts) override;
  [[nodiscard]] std::function<void()> plan(const DispatchInput& input, DispatchHandle::State& state) override;
  [[nodiscard]] Event capture(const Stream& /*stream*/) override { return Event(); }
  [[nodiscard]] Stream communication_stream() const override { return {}; }

 private:
  void plan_rows(const DispatchInput& input, DispatchHandle::State& state);
  void plan_expanded(const DispatchInput& input, DispatchHandle::State& state);

  Topology topology_;
  std::shared_ptr<HostPool> pool_ = std::make_shared<HostPool>();
};

}  // namespace crossdock
