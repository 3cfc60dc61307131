// The state behind a ReceiveHook, and the hooks of a buffer that have not been called yet.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <crossdock/low_latency.hpp>
#include <crossdock/types.hpp>

#include "backend/backend.hpp"

namespace crossdock {

class ReceiveHook::State {
 public:
  /// REQUIRES: `name` is a literal.
  State(std::string_view name, std::uint64_t epoch, std::shared_ptr<backend::ReceiveOperation> operation,
        Milliseconds timeout) noexcept
      : name_(name), epoch_(epoch), operation_(std::move(operation)), timeout_(timeout) {}

  void call();
  [[nodiscard]] std::uint64_t epoch() const noexcept { return epoch_; }
  [[nodiscard]] std::string_view name() const noexcept { return name_; }
  [[nodiscard]] bool was_called() const noexcept { return operation_ == nullptr; }
  /// Gives the operation up and says which it was.
  [[nodiscard]] std::string abandon();

 private:
  std::string_view name_;
  std::uint64_t epoch_;
  std::shared_ptr<backend::ReceiveOperation> operation_;  ///< null once called or abandoned
  Milliseconds timeout_;
};

/// Not thread-safe: used by the thread that calls the buffer.
class PendingHooks {
 public:
  [[nodiscard]] ReceiveHook add(std::shared_ptr<ReceiveHook::State> state);
  /// Throws kState, once for each, if a hook was dropped without a call.
  void check_dropped();
  /// An operation that is about to begin.
  struct Next {
    std::uint64_t epoch = 0;
    std::uint64_t first_epoch = 0;  ///< hooks of epochs before it are not looked at
    int rank = 0;
    std::string_view operation;
  };
  /// Throws kState if it would wait for a hook that is still to be called.
  void check_oldest(const Next& next) const;
  /// Gives up all that are still to be called: no call may come after the buffer has gone.
  void abandon_all() noexcept;

 private:
  std::vector<std::shared_ptr<ReceiveHook::State>> states_;
};

}  // namespace crossdock
