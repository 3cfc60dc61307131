// Microseconds that the phases of an operation take.
#pragma once

#include <time.h>

#include <chrono>
#include <cstddef>

#include "backend/host/kernels.hpp"

namespace crossdock::host {

/// Core time of this thread since construction. Only large batches are measured: reading this clock is a system call,
/// which small ones would feel.
class CpuStopwatch {
 public:
  explicit CpuStopwatch(std::size_t batch_bytes) : start_(is_large_batch(batch_bytes) ? now() : 0) {}
  [[nodiscard]] double elapsed() const { return start_ > 0 ? now() - start_ : 0; }

 private:
  static double now() {
    timespec time{};
    ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
    return static_cast<double>(time.tv_sec) * 1e6 + static_cast<double>(time.tv_nsec) * 1e-3;
  }

  double start_;
};

class Stopwatch {
 public:
  /// Since construction or the last lap.
  double lap() {
    const auto now = Clock::now();
    const double result = std::chrono::duration<double, std::micro>(now - last_).count();
    last_ = now;
    return result;
  }

 private:
  using Clock = std::chrono::steady_clock;
  Clock::time_point last_ = Clock::now();
};

}  // namespace crossdock::host
