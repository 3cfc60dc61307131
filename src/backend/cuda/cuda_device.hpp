// What a rank does by itself on its device.
#pragma once

#include <memory>

#include "backend/cuda/arrays.hpp"
#include "backend/cuda/communication_stream.hpp"
#include "backend/cuda/device/layout.hpp"
#include "backend/cuda/device_guard.hpp"
#include "backend/local_device.hpp"

namespace crossdock::cuda {

class CudaDevice final : public backend::LocalDevice {
 public:
  CudaDevice(std::shared_ptr<CommunicationStream> stream, int num_ranks, const BufferOptions& options);

  void bind_thread() override { use_device(stream_->device().index); }
  [[nodiscard]] Tensor allocate(DataType dtype, std::span<const std::int64_t> shape) override {
    return stream_->allocate(dtype, shape);
  }
  [[nodiscard]] DispatchLayout compute_layout(const Tensor& topk_idx, int num_experts) override;
  void plan(const DispatchInput& input, DispatchHandle::State& state) override;
  [[nodiscard]] bool is_captured(const Stream& stream) const override;
  [[nodiscard]] Event capture(const Stream& stream) override;
  [[nodiscard]] Stream communication_stream() const override { return {stream_->device(), stream_->get()}; }

 private:
  [[nodiscard]] device::LayoutArgs make_args(std::int64_t num_tokens, int num_experts);
  /// Counts on the device and waits for the counts.
  void count(device::LayoutArgs& args) const;
  [[noreturn]] void throw_bad_id(const device::LayoutArgs& args) const;
  void plan_expanded(const DispatchInput& input, DispatchHandle::State& state);
  /// What count() has counted.
  void take_counts(DispatchHandle::State& state) const;
  /// Queues a copy of counts to pinned memory.
  void fetch(const Tensor& from, std::int32_t* to) const;
  void plan_by_layout(const DispatchLayout& layout, device::LayoutArgs& args, DispatchHandle::State& state) const;

  std::shared_ptr<CommunicationStream> stream_;
  int num_ranks_;
  Milliseconds timeout_;
  // Scratch of one count at a time.
  DeviceArray<std::int32_t> rank_totals_;
  DeviceArray<std::int32_t> expert_totals_;
  DeviceArray<std::uint64_t> bad_id_;
  Tensor masks_;
  Tensor block_counts_;
  // What the host reads of it.
  PinnedArray<std::int32_t> counted_per_rank_;
  PinnedArray<std::int32_t> counted_per_expert_;
  PinnedArray<std::uint64_t> counted_bad_id_;
  PinnedArray<std::int32_t> given_per_rank_;  ///< of a layout that the caller brought
  PinnedArray<std::int32_t> given_per_expert_;
};

}  // namespace crossdock::cuda
