// The communication stream of the host: a thread that runs jobs in order.
#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>

#include <crossdock/event.hpp>

namespace crossdock {

class OperationEvent;

/// Started by the first job. Thread-safe.
class Worker {
 public:
  Worker() = default;
  Worker(const Worker&) = delete;
  Worker& operator=(const Worker&) = delete;
  /// Runs what is queued, then ends.
  ~Worker() { stop(); }

  /// Queues a job; the event completes when it has run, with what it threw. The job is destroyed before that, so what
  /// it holds is free by then.
  [[nodiscard]] Event run(std::function<void()> job);
  /// Runs what is queued, then ends the thread. Idempotent.
  void stop() noexcept;

 private:
  struct Job {
    std::function<void()> body;
    std::shared_ptr<OperationEvent> done;
  };

  void loop();

  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Job> jobs_;
  std::thread thread_;
  bool is_stopping_ = false;
};

}  // namespace crossdock
