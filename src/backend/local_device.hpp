// The contract of what a rank does by itself on the buffer's device: memory for results, counting where tokens go, and
// knowing how far the caller's stream is.
#pragma once

#include <cstdint>
#include <functional>
#include <span>

#include <crossdock/buffer.hpp>

#include "backend/handle_state.hpp"

namespace crossdock::backend {

/// Nothing here talks to other ranks. Used by the thread that calls the buffer; tensors and events that it returned may
/// outlive it and go to any thread.
class LocalDevice {
 public:
  virtual ~LocalDevice() = default;

  /// Makes it the device of the calling thread for good: of one that serves only this buffer.
  virtual void bind_thread() {}

  /// Private memory of the device, contents undefined. Throws kCapacity if there is none.
  [[nodiscard]] virtual Tensor allocate(DataType dtype, std::span<const std::int64_t> shape) = 0;

  /// As Buffer::get_dispatch_layout. REQUIRES: check_topk_idx passed. Throws kInvalidArgument, naming token, column and
  /// id, for an id outside [-1, E).
  [[nodiscard]] virtual DispatchLayout compute_layout(const Tensor& topk_idx, int num_experts) = 0;

  /// Begins to find what a dispatch's handle knows when the dispatch starts: layout, counts and route. What it returns
  /// waits for that and fills it in; input and state must be there until then, and nothing else is planned meanwhile.
  /// REQUIRES: check_dispatch passed. Both throw kInvalidArgument for an id outside [-1, E) or a layout of the caller
  /// that does not agree with itself.
  [[nodiscard]] virtual std::function<void()> plan(const DispatchInput& input, DispatchHandle::State& state) = 0;

  /// Is what is queued on the stream being recorded into a graph, so that no one can wait for it?
  [[nodiscard]] virtual bool is_captured(const Stream& /*stream*/) const { return false; }
  /// The point that the stream has reached now: what was queued on it before. Complete at once on the host.
  [[nodiscard]] virtual Event capture(const Stream& stream) = 0;

  /// What kernels are queued on; the default stream on the host.
  [[nodiscard]] virtual Stream communication_stream() const = 0;
};

}  // namespace crossdock::backend
