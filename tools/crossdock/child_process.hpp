// One forked process and what it has to say.
#pragma once

#include <sys/types.h>

#include <functional>
#include <optional>

#include "base/file_descriptor.hpp"
#include "crossdock/rank_launcher.hpp"

namespace crossdock::tool {

/// Runs a function in a forked process. The process ends with its parent; killed and reaped when this object dies.
class ChildProcess {
 public:
  /// `body` returns, or throws what failure() will then tell. REQUIRES: no other thread. Throws kSystem.
  ChildProcess(int rank, const std::function<void()>& body);
  ChildProcess(ChildProcess&& other) noexcept;
  ChildProcess& operator=(ChildProcess&&) = delete;
  ~ChildProcess();

  [[nodiscard]] int rank() const noexcept { return rank_; }
  [[nodiscard]] bool running() const noexcept { return process_ > 0; }
  /// Readable when there is something to read(); the writing end is held by the process alone.
  [[nodiscard]] int fd() const noexcept { return pipe_.get(); }
  /// Takes in what was written; at the end of it, waits for the process, which is then not running any more.
  void read();
  void kill() noexcept;
  /// None while it runs, and if its body returned.
  [[nodiscard]] const std::optional<RankFailure>& failure() const noexcept { return failure_; }

 private:
  void reap();

  int rank_;
  pid_t process_ = -1;
  FileDescriptor pipe_;
  std::string report_;  // one byte of ErrorCode, then the message
  std::optional<RankFailure> failure_;
};

}  // namespace crossdock::tool
