// The end of an operation that runs on a thread of the host.
#pragma once

#include <atomic>
#include <condition_variable>
#include <exception>
#include <mutex>

#include "backend/event_state.hpp"

namespace crossdock {

class OperationEvent final : public Event::State {
 public:
  /// Ends the operation; `error` is null if it ended well. Called once.
  void complete(std::exception_ptr error);
  [[nodiscard]] bool is_complete() noexcept override { return complete_.load(std::memory_order_acquire); }
  void wait() override;

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::exception_ptr error_;
  std::atomic<bool> complete_ = false;  ///< set with release after error_
};

}  // namespace crossdock
