#include "backend/cuda/cuda_backend.hpp"

#include <fmt/format.h>

#include "backend/cuda/combine.hpp"
#include "backend/cuda/dispatch.hpp"
#include "backend/cuda/low_latency_combine.hpp"
#include "backend/cuda/low_latency_dispatch.hpp"
#include "backend/cuda/worst_case_combine.hpp"
#include "backend/cuda/worst_case_dispatch.hpp"
#include "base/error.hpp"

namespace crossdock::cuda {

template <class Body>
void CudaBackend::run_on_host(const Deadline& deadline, const Body& body) {
  try {
    node_->group->guarded(body);
  } catch (const host::ElsewhereError& error) {
    node_->queue->refuse({}, error, deadline.timeout());
    throw;
  }
}

std::shared_ptr<void> CudaBackend::launch_ahead(const backend::DispatchRequest& request) {
  return Dispatch::launch_ahead(*node_, request);
}

std::unique_ptr<backend::DispatchOperation> CudaBackend::start_dispatch(const backend::DispatchRequest& request,
                                                                        const Deadline& deadline) {
  if (request.num_worst_tokens ? keeps_counts_on_device() : request.handle->is_on_device()) {
    return send<WorstCaseDispatch>(request, deadline);
  }
  auto operation = std::make_unique<Dispatch>(node_, request);
  run_on_host(deadline, [&] { operation->start(deadline); });
  return operation;
}

Buffer::PhaseTimes CudaBackend::combine(const backend::CombineRequest& request, const Deadline& deadline) {
  Buffer::PhaseTimes times;
  run_on_host(deadline, [&] { times = Combine(*node_, request).run(deadline); });
  return times;
}

template <class Operation, class Request>
std::unique_ptr<Operation> CudaBackend::send(const Request& request, const Deadline& deadline) {
  auto operation = std::make_unique<Operation>(node_, request);
  // Windows of the host take no part in it.
  node_->group->signals.retire(request.epoch);
  try {
    operation->send(deadline);
  } catch (const Error& error) {
    Error named(error.code(), fmt::format("rank {}: {}", rank(), error.what()), error.where());
    named.with_rank(rank());
    node_->queue->refuse(request.stream, named, deadline.timeout());
    throw named;
  }
  return operation;
}

DispatchLayout CudaBackend::compute_layout(const Tensor& topk_idx, int num_experts, const Stream& stream) {
  return compute_worst_case_layout(*node_, topk_idx, num_experts, stream);
}

std::shared_ptr<backend::ReceiveOperation> CudaBackend::send_combine(const backend::CombineRequest& request,
                                                                     const Deadline& deadline) {
  return send<WorstCaseCombine>(request, deadline);
}

std::shared_ptr<backend::LowLatencyDispatchOperation> CudaBackend::send_low_latency_dispatch(
    backend::LowLatencyDispatchRequest request, const Deadline& deadline) {
  return send<LowLatencyDispatch>(request, deadline);
}

std::shared_ptr<backend::ReceiveOperation> CudaBackend::send_low_latency_combine(
    backend::LowLatencyCombineRequest request, const Deadline& deadline) {
  return send<LowLatencyCombine>(request, deadline);
}

void CudaBackend::refuse(const backend::Refusal& refusal, const Error& reason, const Deadline& deadline) {
  const bool is_on_device = refusal.mode == OperationMode::kLowLatency ||
                            (refusal.mode == OperationMode::kWorstCase && keeps_counts_on_device());
  if (!is_on_device) return HostBackend::refuse(refusal, reason, deadline);
  node_->group->signals.retire(refusal.epoch);
  node_->queue->refuse(refusal.stream, reason, deadline.timeout());
}

void CudaBackend::set_masked(int rank, bool masked, std::uint64_t next) {
  const auto bit = std::uint64_t{1} << static_cast<unsigned>(rank);
  const host::Windows& windows = node_->group->windows;
  const std::uint64_t since = windows.masked_since(windows.rank, rank).load(std::memory_order_relaxed);
  // On the device first: it comes back when the host says so.
  const bool has_missed = !masked && since != 0 && since < next;
  node_->queue->set_masks(masked ? mask_bits() | bit : mask_bits() & ~bit, has_missed ? bit : 0);
  HostBackend::set_masked(rank, masked, next);
}

std::uint64_t CudaBackend::readmit(std::uint64_t next, std::string_view operation,
                                   const std::function<void()>& finish) {
  const std::uint64_t epoch = HostBackend::readmit(next, operation, finish);
  const host::Masks& masks = node_->group->signals.masks();
  if (!masks.in_use()) return epoch;
  const std::uint64_t first_epoch = masks.first_epoch(rank());
  if (first_epoch != first_epoch_) node_->queue->come_back(mask_bits());
  first_epoch_ = first_epoch;
  return epoch;
}

std::vector<int> CudaBackend::masked_ranks() const {
  node_->queue->hear_of_losses();
  return HostBackend::masked_ranks();
}

std::uint64_t CudaBackend::mask_bits() const {
  std::uint64_t bits = 0;
  for (const int other : masked_ranks()) bits |= std::uint64_t{1} << static_cast<unsigned>(other);
  return bits;
}

std::optional<Tensor> CudaBackend::allocate_for(const std::shared_ptr<void>& memory, DataType dtype,
                                                std::span<const std::int64_t> shape, bool is_read_by_others) {
  if (!memory) return std::nullopt;
  auto& slabs = *std::static_pointer_cast<CaptureSlabs>(memory);
  const auto use = is_read_by_others ? host::SlabUse::kStaged : host::SlabUse::kResult;
  if (auto tensor = slabs.try_allocate(*node_->group->arena, dtype, shape, use)) return tensor;
  return node_->group->allocate(dtype, shape);  // throws
}

Tensor CudaBackend::allocate(DataType dtype, std::span<const std::int64_t> shape) {
  if (node_->group->arena->largest_free() < host::Arena::slab_bytes(dtype, shape)) node_->queue->release_read();
  return HostBackend::allocate(dtype, shape);
}

std::size_t CudaBackend::arena_bytes_free() const {
  node_->queue->release_read();
  return HostBackend::arena_bytes_free();
}

}  // namespace crossdock::cuda
