// The contract of a backend: moves the rows of one node's ranks.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include <crossdock/buffer.hpp>
#include <crossdock/error.hpp>
#include <crossdock/tensor.hpp>

#include "backend/handle_state.hpp"
#include "backend/low_latency_state.hpp"
#include "base/deadline.hpp"
#include "plan/route.hpp"

namespace crossdock::backend {

/// Of one buffer on one rank. An operation is open from its start until its second half has ended.
inline constexpr std::uint64_t kMostOpenOperations = 16;

/// A dispatch whose arguments are known to be right on this rank.
struct DispatchRequest {
  std::uint64_t epoch = 0;
  Completion completion = Completion::kSynchronous;
  Stream stream{};
  Tensor x;                              ///< [N, H], rows contiguous
  std::optional<Tensor> x_scales;        ///< [N, S], any strides
  std::optional<Tensor> topk_idx;        ///< [N, K], int64 or int32, contiguous
  std::optional<Tensor> topk_weights;    ///< float32 [N, K], contiguous
  std::optional<DispatchLayout> layout;  ///< that the caller brought, for a backend that looks at it itself
  int expert_alignment = 1;
  std::optional<std::int64_t> num_worst_tokens;
  std::optional<Tensor> statistics;  ///< int32 [L], contiguous
  std::optional<Tensor> wait_costs;  ///< int64 [R], contiguous
  int num_sms = 0;  ///< multiprocessors that a device may use for it, 0: as many as the backend finds right
  /// Routing and expert counts of this rank; for a cached dispatch, everything.
  std::shared_ptr<const DispatchHandle::State> handle;
  /// The same object, for the backend to fill in what it learns; null for a cached dispatch.
  std::shared_ptr<DispatchHandle::State> new_handle;
  std::shared_ptr<void> ahead;  ///< what Backend::launch_ahead has begun, or null

  [[nodiscard]] bool is_cached() const noexcept { return new_handle == nullptr; }
};

struct DispatchResult {
  Tensor recv_x;
  std::optional<Tensor> recv_x_scales;
  std::optional<Tensor> recv_topk_idx;
  std::optional<Tensor> recv_topk_weights;
  std::vector<std::int32_t> num_recv_tokens_per_expert;
  std::optional<Tensor> group_ends;  ///< int32 [L], of an expanded dispatch
};

struct CombineRequest {
  std::uint64_t epoch = 0;
  Completion completion = Completion::kSynchronous;
  Stream stream{};
  Tensor x;                            ///< bfloat16 or float32 [M, H], rows contiguous
  std::optional<Tensor> topk_weights;  ///< float32 [M, K], contiguous; [M, 1] of an expanded dispatch
  std::optional<Tensor> bias_0;        ///< [N, H], rows contiguous
  std::optional<Tensor> bias_1;
  Tensor out;                         ///< [N, H], contiguous
  std::optional<Tensor> out_weights;  ///< float32 [N, K], contiguous; exactly if topk_weights is set
  int num_sms = 0;                    ///< as in a dispatch
  std::shared_ptr<const DispatchHandle::State> handle;
  std::optional<Tensor> wait_costs;  ///< int64 [R], contiguous
};

struct LowLatencyDispatchRequest {
  std::uint64_t epoch = 0;
  Completion completion = Completion::kSynchronous;
  Stream stream{};
  Tensor x;         ///< bfloat16 [N, H], rows contiguous
  Tensor topk_idx;  ///< [N, K], int64 or int32, contiguous, ids in [-1, E)
  RowFormat format = RowFormat::kBfloat16;
  std::optional<Tensor> statistics;  ///< int32 [L], contiguous
  std::optional<Tensor> wait_costs;  ///< int64 [R], contiguous
  std::shared_ptr<LowLatencyHandle::State> handle;

  /// The caller leaves x alone until receive() has returned.
  [[nodiscard]] bool x_stays() const noexcept { return completion != Completion::kHook; }
};

struct LowLatencyDispatchResult {
  Tensor x;
  std::optional<Tensor> scales;
};

struct LowLatencyCombineRequest {
  std::uint64_t epoch = 0;
  Completion completion = Completion::kSynchronous;
  Stream stream{};
  Tensor x;                          ///< bfloat16 [L, R * M, H], contiguous
  Tensor topk_weights;               ///< float32 [N, K], contiguous
  Tensor out;                        ///< bfloat16 [N, H], contiguous
  std::optional<Tensor> topk_idx;    ///< on a device, [N, K], int64 or int32, contiguous: must be the dispatch's ids
  std::optional<Tensor> wait_costs;  ///< int64 [R], contiguous
  bool use_logfmt = false;
  bool zero_copy = false;  ///< x is a slab that next_combine_buffer() gave; it belongs to the operation
  std::shared_ptr<const LowLatencyHandle::State> handle;

  /// The caller leaves x alone until receive() has returned.
  [[nodiscard]] bool x_stays() const noexcept { return completion != Completion::kHook; }
};

/// An operation that a rank will not do.
struct Refusal {
  std::uint64_t epoch = 0;
  OperationMode mode = OperationMode::kThroughput;
  Stream stream{};
};

/// A low-latency operation whose first half is done.
class ReceiveOperation {
 public:
  virtual ~ReceiveOperation() = default;
  /// The second half: waits for the others and makes the results usable. Called once.
  virtual void receive(const Deadline& deadline) = 0;
  /// Instead of receive(): the results are given up, the group goes on.
  virtual void abandon() noexcept = 0;
};

class LowLatencyDispatchOperation : public ReceiveOperation {
 public:
  [[nodiscard]] virtual const LowLatencyDispatchResult& result() const = 0;
};

/// A dispatch between its two halves.
class DispatchOperation {
 public:
  virtual ~DispatchOperation() = default;
  /// The tensors that finish() fills: known, allocated, not yet written.
  [[nodiscard]] virtual const DispatchResult& result() const = 0;
  /// Moves this rank's rows and waits until all rows for this rank are here. Called once.
  virtual void finish(const Deadline& deadline) = 0;
  [[nodiscard]] virtual Buffer::PhaseTimes times() const = 0;
};

/// One rank's end of the group. Collective operations are numbered by epoch, 1, 2, 3, ..., the same on all ranks, and
/// every epoch is either started or refused by every rank.
///
/// Failure: an operation that all ranks refuse together (bad argument on some rank, mismatch, no room) throws Error on
/// all of them, leaves nothing behind, and the backend goes on. A timeout or a lost peer breaks the backend: the error
/// is published to the peers, later operations throw kState, and only close() is left. With
/// BufferOptions::mask_lost_ranks the rank is masked instead, and the operation goes on without it or throws kPeerLost
/// on all ranks alike (docs/semantics.md). Threads: an operation may be
/// started in one thread and finished in another, and two threads may each be in an operation. Epochs need not be
/// started in order, but an epoch that is never started holds up the ones that are far ahead of it. Memory: input
/// tensors are read until the operation returns; results and windows live as long as a tensor refers to them.
class Backend {
 public:
  virtual ~Backend() = default;

  /// Begins what takes long while LocalDevice::plan has still to find the counts of a dispatch that will be started.
  /// Null if there is nothing like that. Letting go of it gives it up.
  [[nodiscard]] virtual std::shared_ptr<void> launch_ahead(const DispatchRequest& /*request*/) { return nullptr; }
  /// First half of a dispatch: exchanges counts and takes room for what comes. With a worst-case token count nothing is
  /// waited for here.
  [[nodiscard]] virtual std::unique_ptr<DispatchOperation> start_dispatch(const DispatchRequest& request,
                                                                          const Deadline& deadline) = 0;
  /// A whole combine.
  virtual Buffer::PhaseTimes combine(const CombineRequest& request, const Deadline& deadline) = 0;
  /// Do worst-case dispatches, and what uses their handles, go without the host? Then the caller plans nothing, their
  /// order is that of the calls to start_dispatch and send_combine, and with kStream their second halves do not wait.
  /// Equal on all ranks.
  [[nodiscard]] virtual bool keeps_counts_on_device() const noexcept { return false; }
  /// As Buffer::get_dispatch_layout, queued on the caller's stream. An id that is not allowed is found by the dispatch.
  /// REQUIRES: keeps_counts_on_device(), check_topk_idx passed.
  [[nodiscard]] virtual DispatchLayout compute_layout(const Tensor& /*topk_idx*/, int /*num_experts*/,
                                                      const Stream& /*stream*/) {
    return {};
  }
  /// First half of a combine with the handle of such a dispatch. REQUIRES: keeps_counts_on_device().
  [[nodiscard]] virtual std::shared_ptr<ReceiveOperation> send_combine(const CombineRequest& /*request*/,
                                                                       const Deadline& /*deadline*/) {
    return nullptr;
  }
  /// First half of a low-latency dispatch: rows are on their way when it returns.
  [[nodiscard]] virtual std::shared_ptr<LowLatencyDispatchOperation> send_low_latency_dispatch(
      LowLatencyDispatchRequest request, const Deadline& deadline) = 0;
  /// First half of a low-latency combine: the others may read this rank's rows.
  [[nodiscard]] virtual std::shared_ptr<ReceiveOperation> send_low_latency_combine(LowLatencyCombineRequest request,
                                                                                   const Deadline& deadline) = 0;
  /// Tells the peers that this rank will not do this epoch's operation, and why; their calls throw the same. Does not
  /// wait for them to hear it.
  virtual void refuse(const Refusal& refusal, const Error& reason, const Deadline& deadline) = 0;

  /// Called before each operation: throws what an earlier one ended with that no one waited for (kStream, kHook), once.
  /// The call is then no operation.
  virtual void throw_unawaited() {}

  /// Goes without a rank from the operation `next` on, or lets it in again; no change is no error. Local.
  virtual void set_masked(int rank, bool masked, std::uint64_t next) = 0;
  /// Masked by the caller, or lost (BufferOptions::mask_lost_ranks); ascending.
  [[nodiscard]] virtual std::vector<int> masked_ranks() const = 0;
  /// Called before each operation: the epoch that it gets, `next` unless the others had masked this rank and let it in
  /// again. Throws kState, and no operation begins, while others mask this rank. `finish` must end the operations that
  /// were begun before; it is called if they are to be forgotten. As good as free if no mask has changed.
  [[nodiscard]] virtual std::uint64_t readmit(std::uint64_t next, std::string_view operation,
                                              const std::function<void()>& finish) = 0;

  /// A tensor in this rank's window. Throws kCapacity, with the bytes that would do, if there is no room.
  [[nodiscard]] virtual Tensor allocate(DataType dtype, std::span<const std::int64_t> shape) = 0;
  /// The same for something that belongs to a dispatch, whose handle's `memory` this is; none if it need not be of a
  /// special kind.
  [[nodiscard]] virtual std::optional<Tensor> allocate_for(const std::shared_ptr<void>& /*memory*/, DataType /*dtype*/,
                                                           std::span<const std::int64_t> /*shape*/,
                                                           bool /*is_read_by_others*/) {
    return std::nullopt;
  }
  [[nodiscard]] virtual std::size_t arena_bytes_free() const = 0;
  [[nodiscard]] virtual std::size_t arena_bytes_total() const = 0;
  /// This rank's arena as uint8 of one dimension; it keeps the memory alive.
  [[nodiscard]] virtual Tensor arena() const = 0;
  [[nodiscard]] virtual bool is_broken() const = 0;
  /// Leaves the group, telling the peers. Local, immediate, idempotent.
  virtual void close() noexcept = 0;
};

}  // namespace crossdock::backend
