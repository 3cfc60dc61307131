// The backend for ranks whose tensors lie on CUDA devices of one host.
#pragma once

#include <memory>

#include "backend/backend.hpp"
#include "backend/cuda/node.hpp"

namespace crossdock::cuda {

/// What ranks say to each other is the host backend's.
class CudaBackend final : public host::HostBackend {
 public:
  explicit CudaBackend(std::shared_ptr<const Node> node) : HostBackend(node->group), node_(std::move(node)) {}

  [[nodiscard]] std::shared_ptr<void> launch_ahead(const backend::DispatchRequest& request) override;
  [[nodiscard]] std::unique_ptr<backend::DispatchOperation> start_dispatch(const backend::DispatchRequest& request,
                                                                           const Deadline& deadline) override;
  Buffer::PhaseTimes combine(const backend::CombineRequest& request, const Deadline& deadline) override;
  [[nodiscard]] bool keeps_counts_on_device() const noexcept override { return node_->counts_on_device; }
  [[nodiscard]] DispatchLayout compute_layout(const Tensor& topk_idx, int num_experts, const Stream& stream) override;
  [[nodiscard]] std::shared_ptr<backend::ReceiveOperation> send_combine(const backend::CombineRequest& request,
                                                                        const Deadline& deadline) override;
  [[nodiscard]] std::shared_ptr<backend::LowLatencyDispatchOperation> send_low_latency_dispatch(
      backend::LowLatencyDispatchRequest request, const Deadline& deadline) override;
  [[nodiscard]] std::shared_ptr<backend::ReceiveOperation> send_low_latency_combine(
      backend::LowLatencyCombineRequest request, const Deadline& deadline) override;
  void refuse(const backend::Refusal& refusal, const Error& reason, const Deadline& deadline) override;
  void throw_unawaited() override { node_->queue->throw_unawaited(); }
  void set_masked(int rank, bool masked, std::uint64_t next) override;
  [[nodiscard]] std::vector<int> masked_ranks() const override;
  [[nodiscard]] std::uint64_t readmit(std::uint64_t next, std::string_view operation,
                                      const std::function<void()>& finish) override;
  [[nodiscard]] Tensor allocate(DataType dtype, std::span<const std::int64_t> shape) override;
  [[nodiscard]] std::optional<Tensor> allocate_for(const std::shared_ptr<void>& memory, DataType dtype,
                                                   std::span<const std::int64_t> shape,
                                                   bool is_read_by_others) override;
  [[nodiscard]] std::size_t arena_bytes_free() const override;

 private:
  /// Queues an operation that goes without the host.
  template <class Operation, class Request>
  [[nodiscard]] std::unique_ptr<Operation> send(const Request& request, const Deadline& deadline);
  /// Runs what goes through the host. If another rank's operation does not, that rank hears of it.
  template <class Body>
  void run_on_host(const Deadline& deadline, const Body& body);
  [[nodiscard]] int rank() const noexcept { return node_->group->rank(); }
  /// Bit r: rank r is masked.
  [[nodiscard]] std::uint64_t mask_bits() const;

  std::shared_ptr<const Node> node_;
  std::uint64_t first_epoch_ = 0;  ///< since this rank was last let in again
};

}  // namespace crossdock::cuda
