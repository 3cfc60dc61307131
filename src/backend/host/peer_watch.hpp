// Is a peer's process still alive?
#pragma once

#include <vector>

#include "base/file_descriptor.hpp"

namespace crossdock::host {

/// Watches processes through pidfds: the kernel reports the end of a process however it came. Ranks that are threads of
/// this process are always alive. Thread-safe once filled.
class PeerWatch {
 public:
  explicit PeerWatch(int num_ranks)
      : pidfds_(static_cast<std::size_t>(num_ranks)), had_ended_(static_cast<std::size_t>(num_ranks)) {}

  /// Starts to watch a rank's process. Where the kernel has no pidfd (before 5.3), or the process cannot be seen from
  /// here (pid 0: another PID namespace), its death is found by the deadline only.
  void add(int rank, int pid);
  /// True if the rank's process has ended.
  [[nodiscard]] bool is_dead(int rank) const noexcept;

 private:
  std::vector<FileDescriptor> pidfds_;
  std::vector<bool> had_ended_;  ///< before it could be watched
};

}  // namespace crossdock::host
