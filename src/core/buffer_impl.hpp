// What is behind a Buffer: arguments are checked here, epochs are given out, and the backend moves the rows.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string_view>

#include <crossdock/buffer.hpp>

#include "backend/backend.hpp"
#include "backend/local_device.hpp"
#include "base/logging.hpp"
#include "base/recycling.hpp"
#include "core/combine_buffers.hpp"
#include "core/receive_hook.hpp"
#include "core/validation.hpp"
#include "core/worker.hpp"

namespace crossdock {

class Buffer::Impl {
 public:
  Impl(Bootstrap& bootstrap, const BufferOptions& options);
  ~Impl() { destroy(); }
  Impl(const Impl&) = delete;
  Impl& operator=(const Impl&) = delete;

  [[nodiscard]] int rank() const noexcept { return rank_; }
  [[nodiscard]] const Topology& topology() const noexcept { return topology_; }
  [[nodiscard]] bool is_available() const noexcept { return backend_ && !backend_->is_broken(); }
  [[nodiscard]] const backend::Backend& backend() const;
  [[nodiscard]] std::size_t arena_bytes_total() const noexcept { return backend_ ? backend_->arena_bytes_total() : 0; }
  [[nodiscard]] ExpertRange local_experts(int num_experts) const;

  [[nodiscard]] DispatchLayout get_dispatch_layout(const Tensor& topk_idx, int num_experts,
                                                   const OperationOptions& options);
  [[nodiscard]] DispatchOutput dispatch(const DispatchInput& input, const OperationOptions& options);
  [[nodiscard]] DispatchOutput dispatch(const CachedDispatchInput& input, const OperationOptions& options);
  [[nodiscard]] CombineOutput combine(const CombineInput& input, const OperationOptions& options);
  [[nodiscard]] Tensor combine_input(const DispatchHandle& handle, std::int64_t hidden, DataType dtype);
  [[nodiscard]] LowLatencyDispatchOutput low_latency_dispatch(const LowLatencyDispatchInput& input,
                                                              const OperationOptions& options);
  [[nodiscard]] LowLatencyCombineOutput low_latency_combine(const LowLatencyCombineInput& input,
                                                            const OperationOptions& options);
  [[nodiscard]] Tensor next_combine_buffer(const LowLatencyHandle& handle);
  void refuse(const Error& reason, OperationMode mode);
  [[nodiscard]] Event capture(const Stream& stream) { return local_device_->capture(stream); }
  [[nodiscard]] Stream communication_stream() const { return local_device_->communication_stream(); }
  void mask_rank(int rank, bool masked);
  [[nodiscard]] std::vector<int> masked_ranks() const { return backend().masked_ranks(); }
  void clear_masks();
  [[nodiscard]] PhaseTimes last_phase_times() const;
  void destroy() noexcept;

 private:
  /// Number of the next operation. Throws kState if there can be none.
  [[nodiscard]] std::uint64_t next_epoch(std::string_view operation);
  /// A negative one is refused, and the refusal too needs a deadline.
  [[nodiscard]] Milliseconds timeout_of(const OperationOptions& options) const {
    return options.timeout && options.timeout->count() >= 0 ? *options.timeout : options_.timeout;
  }
  /// Runs `body`; if it throws, the peers are told, and what is thrown names the operation and this rank.
  template <class Body>
  auto or_refuse(const backend::Refusal& refusal, std::string_view operation, Milliseconds timeout, Body body);
  [[nodiscard]] Error named(const std::exception& error, std::string_view operation) const;

  /// Does an operation with that handle, or one with a worst case, go without the host?
  [[nodiscard]] bool is_on_device(const DispatchHandle& handle) const noexcept;
  [[nodiscard]] bool is_on_device(const DispatchInput& input) const noexcept;
  void check_not_captured(const OperationOptions& options) const;
  /// An operation starts after previous_event and after what the caller has queued on its stream.
  void await_start(const OperationOptions& options);
  /// The same for one that goes without the host: in the order of its stream if it is queued there.
  void await_start_on_device(const OperationOptions& options);
  [[nodiscard]] backend::DispatchRequest make_request(std::uint64_t epoch, const DispatchInput& input,
                                                      const OperationOptions& options);
  [[nodiscard]] backend::DispatchRequest make_request(std::uint64_t epoch, const CachedDispatchInput& input,
                                                      const OperationOptions& options);
  [[nodiscard]] backend::CombineRequest make_request(std::uint64_t epoch, const CombineInput& input,
                                                     const OperationOptions& options);
  template <class Input>
  [[nodiscard]] DispatchOutput run_dispatch(std::string_view name, const Input& input, bool is_on_device,
                                            const OperationOptions& options);
  [[nodiscard]] DispatchOutput finish_dispatch(const backend::DispatchRequest& request, const OperationOptions& options,
                                               double layout_us);
  [[nodiscard]] CombineOutput combine_on_device(const CombineInput& input, const OperationOptions& options);
  [[nodiscard]] backend::LowLatencyDispatchRequest make_request(std::uint64_t epoch,
                                                                const LowLatencyDispatchInput& input,
                                                                const OperationOptions& options);
  [[nodiscard]] backend::LowLatencyCombineRequest make_request(std::uint64_t epoch, const LowLatencyCombineInput& input,
                                                               const OperationOptions& options);
  /// The request of a low-latency operation, or its refusal.
  template <class Input>
  [[nodiscard]] auto checked_request(std::uint64_t epoch, std::string_view name, const Input& input,
                                     const OperationOptions& options);
  /// The options with kStream where the host cannot wait.
  [[nodiscard]] OperationOptions completed(const OperationOptions& options) const;
  /// For what a combine returns. `memory` is that of its handle.
  [[nodiscard]] Tensor allocate_combined(const std::shared_ptr<void>& memory, DataType dtype,
                                         std::array<std::int64_t, 2> shape, Completion completion);
  /// Runs the second half now, on the worker, or when the hook is called.
  void receive(const std::shared_ptr<backend::ReceiveOperation>& operation, std::string_view name, std::uint64_t epoch,
               const OperationOptions& options, Event& event, ReceiveHook& hook);
  /// Experts of this rank, 0 for a number of experts that is not allowed.
  [[nodiscard]] int local_experts_unchecked(int num_experts) const;
  void check_handle(const DispatchHandle& handle) const;
  void check_handle(const LowLatencyHandle& handle) const;
  void set_times(const PhaseTimes& times);

  BufferOptions options_;
  int rank_;
  Topology topology_;
  Limits limits_;
  std::uint64_t buffer_id_;
  std::uint64_t last_epoch_ = 0;
  std::uint64_t first_epoch_ = 1;  ///< since this rank was last let in again
  std::unique_ptr<backend::LocalDevice> local_device_;
  std::unique_ptr<backend::Backend> backend_;  ///< null once destroyed
  mutable std::mutex times_mutex_;
  PhaseTimes times_;
  std::shared_ptr<std::pmr::memory_resource> recycler_ = make_recycler();
  PendingHooks hooks_;
  CombineBuffers combine_buffers_;
  Worker worker_;  ///< last: its jobs use all of the above
};

template <class Body>
auto Buffer::Impl::or_refuse(const backend::Refusal& refusal, std::string_view operation, Milliseconds timeout,
                             Body body) {
  try {
    return body();
  } catch (const std::exception& error) {
    const Error reason = named(error, operation);
    try {
      backend_->refuse(refusal, reason, Deadline(timeout));
    } catch (const Error& unheard) {
      logger().warn("rank {}: the other ranks could not be told: {}", rank_, unheard.what());
    }
    throw reason;
  }
}

}  // namespace crossdock
