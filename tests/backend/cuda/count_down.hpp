// A latch that is counted down whatever happens.
#pragma once

#include <latch>

namespace crossdock::testing {

/// Counts down when it goes.
class CountDown {
 public:
  explicit CountDown(std::latch& latch) : latch_(latch) {}
  CountDown(const CountDown&) = delete;
  CountDown& operator=(const CountDown&) = delete;
  ~CountDown() { latch_.count_down(); }

 private:
  std::latch& latch_;
};

}  // namespace crossdock::testing
