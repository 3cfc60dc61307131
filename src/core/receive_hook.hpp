// The state behind a ReceiveHook, and the hooks of a buffer that have not been called yet.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include <crossdock/low_latency.hpp>

namespace crossdock {

class ReceiveHook::State {
 public:
  /// `receive` runs when the hook is called, `abandon` if it never is.
  State(std::string operation, std::uint64_t epoch, std::function<void()> receive, std::function<void()> abandon)
      : operation_(std::move(operation)), epoch_(epoch), receive_(std::move(receive)), abandon_(std::move(abandon)) {}

  void call();
  [[nodiscard]] bool was_called() const noexcept { return receive_ == nullptr; }
  /// Gives the operation up and says which it was.
  [[nodiscard]] std::string abandon();

 private:
  std::string operation_;
  std::uint64_t epoch_;
  std::function<void()> receive_;  ///< empty once called or abandoned
  std::function<void()> abandon_;
};

/// Not thread-safe: used by the thread that calls the buffer.
class PendingHooks {
 public:
  [[nodiscard]] ReceiveHook add(std::shared_ptr<ReceiveHook::State> state);
  /// Throws kState, once for each, if a hook was dropped without a call.
  void check_dropped();
  /// Gives up all that are still to be called: no call may come after the buffer has gone.
  void abandon_all() noexcept;

 private:
  std::vector<std::shared_ptr<ReceiveHook::State>> states_;
};

}  // namespace crossdock
