// What the scheduler gives this process.
#pragma once

namespace crossdock {

/// Cores that this process may run on: its affinity mask, and not more than a cgroup's CPU quota rounded up. At least 1.
[[nodiscard]] int usable_cores();

}  // namespace crossdock
