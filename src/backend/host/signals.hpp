// Telling the other ranks how far this one is, and waiting for them.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <set>
#include <string>
#include <string_view>

#include <crossdock/error.hpp>

#include "backend/host/windows.hpp"
#include "base/deadline.hpp"

namespace crossdock::host {

/// What a wait is for, for its error message.
struct WaitContext {
  std::string_view operation;
  std::string_view phase;
  std::uint64_t epoch = 0;
};

/// Signals are epochs written to fixed places of the own window; they only grow and are never cleaned. Whoever waits
/// reads the other's window.
///
/// A wait that fails breaks the group for this rank: the reason is published, so that peers that wait for this rank
/// fail at once, and every later wait throws kState. Thread-safe.
class Signals {
 public:
  /// `windows` must outlive this.
  explicit Signals(const Windows& windows);

  /// Before a rank writes its slot of `epoch`: waits until every rank is through with what the slot held before.
  void open_epoch(std::uint64_t epoch, std::string_view operation, const Deadline& deadline);
  /// Release: what this thread wrote before is visible to whoever has seen the signal.
  void signal(Phase phase, std::uint64_t epoch);
  /// Acquire: returns once every rank has given the signal.
  void wait_all(Phase phase, std::uint64_t epoch, std::string_view operation, const Deadline& deadline);
  /// This rank is through with the epoch. Epochs may be retired out of order.
  void retire(std::uint64_t epoch);

  /// Publishes that this rank is no longer there; the first departure stands.
  void depart(Departure departure, std::string_view reason) noexcept;
  [[nodiscard]] bool is_broken() const noexcept { return broken_.load(std::memory_order_acquire); }

 private:
  /// A counter that every window has at one place, and the value that it must reach.
  struct Goal {
    std::size_t offset = 0;  ///< from the start of the window
    std::uint64_t required = 0;
  };

  [[nodiscard]] const std::atomic<std::uint64_t>& counter_of(int rank, const Goal& goal) const noexcept;
  void wait_for(const Goal& goal, const WaitContext& context, const Deadline& deadline);
  void wait_for_rank(int rank, const Goal& goal, const WaitContext& context, const Deadline& deadline);
  void sleep_on(int rank, const Goal& goal) const;
  /// Throws if one of the ranks that are missing will not come.
  void check_missing(const Goal& goal, const WaitContext& context, const Deadline& deadline);
  [[noreturn]] void fail(ErrorCode code, const std::string& why, WaitFailure wait);
  void wake_sleepers() const noexcept;

  const Windows& windows_;
  int spins_;  ///< polls before the first yield
  std::atomic<bool> broken_ = false;
  std::mutex retire_mutex_;
  std::set<std::uint64_t> retired_early_;  ///< retired, but an earlier epoch is not
};

}  // namespace crossdock::host
