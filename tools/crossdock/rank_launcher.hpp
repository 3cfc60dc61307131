// Running one function on R ranks of this machine, as processes or as threads.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include <crossdock/bootstrap.hpp>
#include <crossdock/error.hpp>

namespace crossdock::tool {

enum class RankMode : unsigned char {
  kProcesses,  ///< forked, joined by a TCP bootstrap on the loopback interface; what engines do
  kThreads,    ///< joined by an in-process bootstrap; starts faster
};

struct LaunchOptions {
  int num_ranks = 1;
  RankMode mode = RankMode::kProcesses;
  /// For everything, start to end. Processes that still run then are killed; threads cannot be, so a body that may run
  /// as a thread must have deadlines of its own.
  Milliseconds timeout{300'000};
  /// Called in the launching thread about twenty times a second while ranks run.
  std::function<void()> while_waiting;
};

using RankBody = std::function<void(const std::shared_ptr<Bootstrap>&)>;

struct RankFailure {
  int rank = -1;
  ErrorCode code = ErrorCode::kState;
  std::string message;
};

/// Runs `body` on every rank and returns the failures in the order in which they happened, so the first is the likely
/// cause; none if every rank returned. A failure is what the body threw, or a process that died otherwise. After the
/// first failure the other processes get two seconds to end by themselves, then they are killed (and not listed).
/// Processes share with the caller what was shared before (SharedBlock), end with their parent, and do not run exit
/// handlers. REQUIRES (processes): the caller has no other thread. Throws kInvalidArgument for num_ranks < 1, kSystem
/// if ranks cannot be started.
[[nodiscard]] std::vector<RankFailure> run_ranks(const LaunchOptions& options, const RankBody& body);

/// The same, but throws the first failure as an Error that names the rank.
void run_ranks_or_throw(const LaunchOptions& options, const RankBody& body);

}  // namespace crossdock::tool
