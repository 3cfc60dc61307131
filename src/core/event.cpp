#include <crossdock/event.hpp>

#include "core/event_state.hpp"

namespace crossdock {

void OperationEvent::complete(std::exception_ptr error) {
  {
    const std::lock_guard lock(mutex_);
    error_ = std::move(error);
    complete_.store(true, std::memory_order_release);
  }
  changed_.notify_all();
}

void OperationEvent::wait() {
  if (!is_complete()) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return is_complete(); });
  }
  if (error_) std::rethrow_exception(error_);
}

bool Event::is_complete() const noexcept { return state_ == nullptr || state_->is_complete(); }

void Event::wait() const {
  if (state_) state_->wait();
}

}  // namespace crossdock
