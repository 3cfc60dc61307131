// Microseconds between the phases of an operation.
#pragma once

#include <chrono>

namespace crossdock::host {

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
