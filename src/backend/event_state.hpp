// What is behind an Event: core completes operations, a device backend follows its streams.
#pragma once

#include <crossdock/event.hpp>

namespace crossdock {

/// Thread-safe.
class Event::State {
 public:
  State() = default;
  State(const State&) = delete;
  State& operator=(const State&) = delete;
  virtual ~State() = default;

  /// True once what it stands for has ended, well or badly.
  [[nodiscard]] virtual bool is_complete() noexcept = 0;
  /// Blocks until then; throws what it ended with, every time.
  virtual void wait() = 0;
};

}  // namespace crossdock
