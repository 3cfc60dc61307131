// What is behind a Buffer: arguments are checked here, epochs are given out, and the backend moves the rows.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <string_view>

#include <crossdock/buffer.hpp>

#include "backend/backend.hpp"
#include "core/host_pool.hpp"
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
  auto or_refuse(std::uint64_t epoch, std::string_view operation, Milliseconds timeout, Body body);
  [[nodiscard]] Error named(const std::exception& error, std::string_view operation) const;

  [[nodiscard]] DispatchLayout compute_layout(const Tensor& topk_idx, int num_experts) const;
  [[nodiscard]] backend::DispatchRequest make_request(std::uint64_t epoch, const DispatchInput& input);
  [[nodiscard]] backend::DispatchRequest make_request(std::uint64_t epoch, const CachedDispatchInput& input);
  [[nodiscard]] backend::CombineRequest make_request(std::uint64_t epoch, const CombineInput& input);
  [[nodiscard]] DispatchOutput run_dispatch(const backend::DispatchRequest& request, const OperationOptions& options,
                                            double layout_us);
  void check_handle(const DispatchHandle& handle) const;
  void set_times(const PhaseTimes& times);

  BufferOptions options_;
  int rank_;
  Topology topology_;
  Limits limits_;
  std::uint64_t buffer_id_;
  std::uint64_t last_epoch_ = 0;
  std::shared_ptr<HostPool> pool_ = std::make_shared<HostPool>();
  std::unique_ptr<backend::Backend> backend_;  ///< null once destroyed
  mutable std::mutex times_mutex_;
  PhaseTimes times_;
  Worker worker_;  ///< last: its jobs use all of the above
};

}  // namespace crossdock
