// A point in time after which a wait gives up.
#pragma once

#include <algorithm>
#include <chrono>

namespace crossdock {

class Deadline {
 public:
  using Clock = std::chrono::steady_clock;

  explicit Deadline(std::chrono::milliseconds timeout)
      : timeout_(timeout), end_(Clock::now() + std::min(timeout, kLongest)) {}

  [[nodiscard]] bool passed() const { return Clock::now() >= end_; }
  /// What is left, never negative.
  [[nodiscard]] std::chrono::milliseconds left() const {
    const auto rest = std::chrono::ceil<std::chrono::milliseconds>(end_ - Clock::now());
    return rest.count() > 0 ? rest : std::chrono::milliseconds{0};
  }
  /// What it was made with, for messages.
  [[nodiscard]] std::chrono::milliseconds timeout() const noexcept { return timeout_; }

 private:
  // Longer ones would overflow the clock; no wait outlives it.
  static constexpr std::chrono::milliseconds kLongest = std::chrono::hours(24 * 365 * 100);

  std::chrono::milliseconds timeout_;
  Clock::time_point end_;
};

}  // namespace crossdock
