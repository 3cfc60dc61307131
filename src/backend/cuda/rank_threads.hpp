// Ranks that are threads of this process.
#pragma once

#include <functional>

namespace crossdock::cuda {

/// As long as it lives, several ranks of a group may be at work in this process. Their kernels wait for each other; a
/// thread that waits for a device meanwhile, as cudaFree does, keeps all of them from queueing what is waited for. A
/// rank's own thread frees when it gives up its buffer. Others must not choose the moment. Thread-safe.
class RankThreads {
 public:
  RankThreads();
  RankThreads(const RankThreads&) = delete;
  RankThreads& operator=(const RankThreads&) = delete;
  ~RankThreads();

  /// Runs `body` when there are none in this process; those that are to be wait for its end.
  static void run_without_any(const std::function<void()>& body);
};

}  // namespace crossdock::cuda
