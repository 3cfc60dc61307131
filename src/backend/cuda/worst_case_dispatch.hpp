// Throughput dispatch whose results have a given size, and one that repeats it: kernels on a stream, no host in
// between.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>

#include "backend/backend.hpp"
#include "backend/cuda/device/worst_case.hpp"
#include "backend/cuda/kernel_queue.hpp"
#include "backend/cuda/node.hpp"
#include "backend/cuda/worst_case_layout.hpp"

namespace crossdock::cuda {

class WorstCaseDispatch final : public backend::DispatchOperation {
 public:
  WorstCaseDispatch(std::shared_ptr<const Node> node, const backend::DispatchRequest& request)
      : node_(std::move(node)),
        request_(request),
        handle_(*request_.handle),
        num_sms_(node_->num_waiting_sms(request_.num_sms)),
        layout_(*node_, request_.is_cached() ? std::nullopt : std::optional(request_.x.size(0))) {}

  /// Queues it.
  void send(const Deadline& deadline);
  [[nodiscard]] const backend::DispatchResult& result() const override { return result_; }
  void finish(const Deadline& deadline) override;
  [[nodiscard]] Buffer::PhaseTimes times() const override { return times_; }

 private:
  class TensorList;

  [[nodiscard]] std::int64_t num_rows() const noexcept;
  /// Does the caller say where tokens go? An expanded dispatch asks the ids.
  [[nodiscard]] bool reads_membership() const noexcept { return request_.layout && !handle_.is_expanded(); }
  void allocate();
  void want_counts(TensorList& wanted);
  void complete_handle();
  void keep(const DispatchLayout& layout) const;
  [[nodiscard]] device::HandleCounts* counts() const {
    return handle_.counts_on_device.data_as<device::HandleCounts>();
  }
  void count() const;
  /// Of an expanded dispatch: experts of this rank.
  [[nodiscard]] int num_groups() const;
  [[nodiscard]] device::SelectionArgs make_selection_args() const;
  [[nodiscard]] device::PaddingArgs make_padding_args() const;
  [[nodiscard]] device::WorstCaseArgs make_args(const Deadline& deadline) const;
  void move(const Deadline& deadline) const;

  std::shared_ptr<const Node> node_;
  backend::DispatchRequest request_;
  const DispatchHandle::State& handle_;
  int num_sms_;
  Launch launch_;
  Tensor table_;
  Tensor group_scratch_;  ///< of an expanded dispatch: see make_selection_args
  WorstCaseLayout layout_;
  Tensor recv_src_idx_;
  backend::DispatchResult result_;
  Buffer::PhaseTimes times_;
};

}  // namespace crossdock::cuda
