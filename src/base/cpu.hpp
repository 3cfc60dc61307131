// What the scheduler gives this process.
#pragma once

#include <sched.h>

namespace crossdock {

/// The cores that the calling thread may run on.
[[nodiscard]] cpu_set_t allowed_cores();
/// How many cores ranks that may run on `allowed` have together: not more than this cgroup's CPU quota rounded up, at
/// least 1.
[[nodiscard]] int usable_cores(const cpu_set_t& allowed);
/// The same for the calling thread alone.
[[nodiscard]] int usable_cores();

}  // namespace crossdock
