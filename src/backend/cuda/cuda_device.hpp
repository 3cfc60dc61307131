// What a rank does by itself on its device.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

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
  [[nodiscard]] std::function<void()> plan(const DispatchInput& input, DispatchHandle::State& state) override;
  [[nodiscard]] bool is_captured(const Stream& stream) const override;
  [[nodiscard]] Event capture(const Stream& stream) override;
  [[nodiscard]] Stream communication_stream() const override { return {stream_->device(), stream_->get()}; }

 private:
  [[nodiscard]] device::LayoutArgs make_args(std::int64_t num_tokens, int num_experts);
  struct Counts {
    std::vector<std::int32_t> per_rank;
    std::vector<std::int32_t> per_expert;
  };
  enum class Until {
    kCounted,  ///< what else the kernels write is there in the stream's order
    kThrough,  ///< tensors of counts may be used everywhere
  };
  struct Counting {
    device::LayoutArgs args;
    Until until;
    std::shared_ptr<const CommunicationStream::Ticket> ticket;
  };
  /// Queues the kernels that count.
  [[nodiscard]] Counting begin_count(device::LayoutArgs args, Until until = Until::kCounted) const;
  [[nodiscard]] Counts await_counts(const Counting& counting) const;
  /// `place` is that of the id.
  [[noreturn]] void throw_bad_id(const device::LayoutArgs& args, std::int64_t place) const;
  // What to count, after what was queued.
  [[nodiscard]] device::LayoutArgs plan_rows(const DispatchInput& input, DispatchHandle::State& state);
  [[nodiscard]] device::LayoutArgs plan_expanded(const DispatchInput& input, DispatchHandle::State& state);
  /// Queues a copy of counts to pinned memory.
  void fetch(const Tensor& from, std::int32_t* to) const;
  /// Has the caller brought counts, they must agree.
  void take(Counts counts, bool has_given, DispatchHandle::State& state) const;

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
  PinnedArray<std::uint64_t> counted_;        ///< words of a device::CountMessage
  PinnedArray<std::int32_t> given_per_rank_;  ///< of a layout that the caller brought
  PinnedArray<std::int32_t> given_per_expert_;
};

}  // namespace crossdock::cuda
