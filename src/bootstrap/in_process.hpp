// The state that ranks which are threads of one process share.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <vector>

#include <crossdock/bootstrap.hpp>

#include "bootstrap/failure.hpp"

namespace crossdock::bootstrap {

/// Rounds of "everybody hands in bytes, everybody gets all of them". Thread-safe; one thread per rank at a time.
class InProcessGroup {
 public:
  explicit InProcessGroup(int size);

  [[nodiscard]] int size() const noexcept { return static_cast<int>(gone_.size()); }
  /// Throws the group's failure, which is the same for every rank and every later call.
  [[nodiscard]] std::vector<Bytes> exchange(int rank, Operation operation, std::span<const std::byte> mine,
                                            Milliseconds timeout);
  /// The rank takes part in no further round.
  void leave(int rank);

 private:
  struct Round {
    Round(std::uint64_t round_number, int size)
        : number(round_number),
          arrived(static_cast<std::size_t>(size)),
          contributions(static_cast<std::size_t>(size)) {}

    std::uint64_t number;
    Operation operation = Operation::kBarrier;  // what the first rank called
    int present = 0;
    std::vector<bool> arrived;
    std::vector<Bytes> contributions;  // constant once complete
    bool complete = false;
  };

  void enter(Round& round, int rank, Operation operation, std::span<const std::byte> mine);
  void fail_if_somebody_left(const Round& round);
  void fail(Failure failure);

  std::mutex mutex_;
  std::condition_variable changed_;
  std::shared_ptr<Round> round_;  // the one that ranks enter now
  std::vector<bool> gone_;
  std::optional<Failure> failure_;
};

}  // namespace crossdock::bootstrap
