// The end of an operation, as something to wait for.
#pragma once

#include <chrono>
#include <functional>
#include <memory>

#include <crossdock/export.hpp>
#include <crossdock/types.hpp>

namespace crossdock {

/// Completion of an operation. Copies refer to the same completion. A default-constructed event is complete.
/// An operation's tensors are kept alive until its event has completed.
/// Thread safety: all members may be called from any thread.
class CROSSDOCK_EXPORT Event {
 public:
  class CROSSDOCK_HIDDEN State;

  Event() = default;
  explicit Event(std::shared_ptr<State> state) noexcept : state_(std::move(state)) {}

  /// True once the operation has ended, well or badly. Never blocks, never throws.
  [[nodiscard]] bool is_complete() const noexcept;
  /// Blocks until the operation has ended, and throws the Error with which it ended, if any (every time it is called).
  /// Bounded: each operation has a deadline of its own.
  void wait() const;

 private:
  std::shared_ptr<State> state_;
};

/// The point that a stream has reached: what was queued on it before the call. A complete event for the host's, and for
/// a stream with nothing left to do. Needs no buffer. Throws kUnsupported for a device that this build cannot serve.
[[nodiscard]] CROSSDOCK_EXPORT Event capture_stream(const Stream& stream);

}  // namespace crossdock
