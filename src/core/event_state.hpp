// The shared state behind an Event of the host.
#pragma once

#include <atomic>
#include <condition_variable>
#include <exception>
#include <mutex>

#include <crossdock/event.hpp>

namespace crossdock {

class Event::State {
 public:
  /// Ends the operation; `error` is null if it ended well. Called once.
  void complete(std::exception_ptr error);
  [[nodiscard]] bool is_complete() const noexcept { return complete_.load(std::memory_order_acquire); }
  void wait();

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::exception_ptr error_;
  std::atomic<bool> complete_ = false;  ///< set with release after error_
};

}  // namespace crossdock
