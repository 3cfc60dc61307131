#include "core/worker.hpp"

#include <memory>
#include <utility>

#include "base/error.hpp"
#include "core/event_state.hpp"

namespace crossdock {

Event Worker::run(std::function<void()> job) {
  auto done = std::make_shared<OperationEvent>();
  {
    const std::lock_guard lock(mutex_);
    if (is_stopping_) throw make_error(ErrorCode::kState, "the buffer was destroyed");
    jobs_.push_back({std::move(job), done});
    if (!thread_.joinable()) thread_ = std::thread([this] { loop(); });
  }
  changed_.notify_one();
  return Event(std::move(done));
}

void Worker::stop() noexcept {
  {
    const std::lock_guard lock(mutex_);
    is_stopping_ = true;
  }
  changed_.notify_one();
  if (thread_.joinable()) thread_.join();
}

void Worker::loop() {
  for (;;) {
    Job job;
    {
      std::unique_lock lock(mutex_);
      changed_.wait(lock, [this] { return is_stopping_ || !jobs_.empty(); });
      if (jobs_.empty()) return;
      job = std::move(jobs_.front());
      jobs_.pop_front();
    }
    std::exception_ptr error;
    try {
      job.body();
    } catch (...) {
      error = std::current_exception();
    }
    job.body = nullptr;
    job.done->complete(std::move(error));
  }
}

}  // namespace crossdock
