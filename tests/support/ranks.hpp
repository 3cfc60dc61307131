// Running a test's body on every rank of a group.
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include <crossdock/bootstrap.hpp>

namespace crossdock::testing {

using RankBody = std::function<void(const std::shared_ptr<Bootstrap>& bootstrap)>;

/// Ranks as threads of this process. Returns once all have ended; throws std::runtime_error with what every rank that
/// failed has thrown.
void run_as_threads(int num_ranks, const RankBody& body);

/// How a process ended.
struct ExitStatus {
  int code = 0;    ///< of _exit; 0 if the body returned, kBodyThrew if it threw
  int signal = 0;  ///< that killed the process, or 0

  friend bool operator==(const ExitStatus&, const ExitStatus&) = default;
};
inline constexpr int kBodyThrew = 1;
/// The bootstrap did not come about; the body was not run.
inline constexpr int kNoBootstrap = 2;

/// Ranks as forked processes with a TCP bootstrap over the loopback interface. Returns each rank's status once all have
/// ended. What a body throws goes to standard error. Children never return into the test program, run no exit handlers
/// and die with their parent; expectations of GoogleTest in them are lost, so bodies must throw. REQUIRES: this process
/// has no other thread.
[[nodiscard]] std::vector<ExitStatus> run_as_processes(int num_ranks, const RankBody& body);

}  // namespace crossdock::testing
