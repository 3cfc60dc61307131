// Processes that run the same work at the same time, each on a core of its own.
#pragma once

#include <functional>
#include <span>

namespace copy_limit {

struct Trial {
  std::function<void(int process)> work;
  double best_us = 0;  // of all repetitions, the shortest time from the first start to the last end; set by run_trials
};

/// Runs the trials in turn, round after round, so that a disturbance meets all of them alike. The first round warms up.
/// Throws std::system_error if processes cannot be made.
void run_trials(int processes, int rounds, std::span<Trial> trials);

/// Cores that this process may use.
[[nodiscard]] int usable_cores();

}  // namespace copy_limit
