// Telling the other ranks how far this one is, and waiting for them.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <mutex>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <crossdock/error.hpp>
#include <crossdock/tensor.hpp>

#include "backend/host/masks.hpp"
#include "backend/host/windows.hpp"
#include "base/deadline.hpp"

namespace crossdock::host {

/// What a wait is for, for its error message.
struct WaitContext {
  std::string_view operation;
  std::string_view phase;
  std::uint64_t epoch = 0;
};

/// kMismatch: another rank has called an operation that goes without the host (see Backend::keeps_counts_on_device), in
/// place of this one.
class ElsewhereError : public Error {
 public:
  explicit ElsewhereError(const Error& error) : Error(error) {}
};

/// [R] nanoseconds waited for each rank, to which is added; or nothing, then nothing is measured.
using WaitCosts = std::span<std::int64_t>;
[[nodiscard]] inline WaitCosts wait_costs_of(const std::optional<Tensor>& tensor) {
  return tensor ? WaitCosts(tensor->data_as<std::int64_t>(), static_cast<std::size_t>(tensor->size(0))) : WaitCosts();
}

/// Signals are epochs written to fixed places of the own window; they only grow and are never cleaned. Whoever waits
/// reads the other's window.
///
/// A wait that fails breaks the group for this rank: the reason is published, so that peers that wait for this rank
/// fail at once, and every later wait throws kState.
///
/// Ranks that the caller has masked are not waited for. With Windows::mask_lost_ranks nor is a rank that will not come:
/// whoever gives it up first seals the word in which it would signal, and so all see the same, the lost rank too. A
/// rank that is lost before it has announced an operation takes no part in it (is_excluded). If it is lost later, a
/// dispatch is over for all with kPeerLost (its rows are not there), while a combine goes on (all that it reads is
/// there already). Thread-safe.
class Signals {
 public:
  /// `windows` must outlive this.
  explicit Signals(const Windows& windows);

  /// Before a rank writes its slot of `epoch`: waits until every rank is through with what the slot held before.
  void open_epoch(std::uint64_t epoch, std::string_view operation, const Deadline& deadline);
  /// Release: what this thread wrote before is visible to whoever has seen the signal. Throws kState if the others have
  /// given this rank up.
  void signal(Phase phase, std::uint64_t epoch);
  /// Acquire: returns once every rank that takes part has given the signal. Throws kPeerLost, on all ranks alike, if
  /// one was lost without which the operation cannot end; the epoch is then retired.
  void wait_all(Phase phase, std::uint64_t epoch, std::string_view operation, const Deadline& deadline,
                WaitCosts costs = {});
  /// This rank is through with the epoch. Epochs may be retired out of order.
  void retire(std::uint64_t epoch);

  /// Does the operation of `epoch` go without this rank? The same on all ranks that take part. REQUIRES: all have
  /// announced.
  [[nodiscard]] bool is_excluded(int rank, std::uint64_t epoch) const;
  /// To be called between reading the others' records and acting on them: throws kState if the others go without this
  /// rank and may have written other records meanwhile.
  void check_records(std::uint64_t epoch, std::string_view operation) const;
  /// This rank stops without giving the signal, because it threw. What it wrote before, no one need expect to change.
  void stop(Phase phase, std::uint64_t epoch) noexcept;
  /// Does that rank write to or read from others' windows no more for `epoch`, in the part that ends with `phase`?
  [[nodiscard]] bool has_stopped(int rank, Phase phase, std::uint64_t epoch) const noexcept;

  /// The rank takes no part from operation `since` on: the backend found out by itself. Not all hear of it at once, so
  /// those who are late now are given time.
  void lose(int rank, std::uint64_t since);

  [[nodiscard]] Masks& masks() noexcept { return masks_; }
  [[nodiscard]] const Masks& masks() const noexcept { return masks_; }
  /// The epoch of this rank's next operation, which is `next` unless it was masked and is let in again. Throws kState
  /// if others mask it. `finish` is called before this rank forgets the operations that it had begun when it was
  /// masked.
  [[nodiscard]] std::uint64_t readmit(std::uint64_t next, std::string_view operation,
                                      const std::function<void()>& finish);

  /// Publishes that this rank is no longer there; the first departure stands.
  void depart(Departure departure, std::string_view reason) noexcept;
  /// Has that rank left, broken its buffer or died?
  [[nodiscard]] bool is_gone(int rank) const noexcept;
  /// Has it left, or died? Then it writes nothing any more.
  [[nodiscard]] bool has_ended(int rank) const noexcept;
  [[nodiscard]] bool is_broken() const noexcept { return broken_.load(std::memory_order_acquire); }

 private:
  enum class Counter : std::uint8_t { kSignal, kRetired };
  /// A counter that every window has at one place, and the epoch that it must reach.
  struct Goal {
    Counter counter = Counter::kSignal;
    Phase phase = Phase::kAnnounce;  ///< of a signal
    std::uint64_t required = 0;
    std::size_t offset = 0;  ///< from the start of the window
  };

  [[nodiscard]] std::atomic<std::uint64_t>& counter_of(int rank, const Goal& goal) const noexcept;
  [[nodiscard]] bool has_come(int rank, const Goal& goal) const noexcept;
  [[nodiscard]] bool is_awaited(int rank, const Goal& goal, std::uint64_t epoch) const;
  void wait_for(const Goal& goal, const WaitContext& context, const Deadline& deadline, WaitCosts costs = {});
  /// False if the rank was given up, by this rank or another.
  [[nodiscard]] bool wait_for_rank(int rank, const Goal& goal, const WaitContext& context, const Deadline& deadline);
  void sleep_on(int rank, const Goal& goal) const;
  /// Throws if one of the ranks that are missing will not come, or gives it up.
  void check_missing(const Goal& goal, const WaitContext& context, const Deadline& deadline);
  /// Throws ElsewhereError if one of the ranks that are missing is through with the epoch; it is then retired.
  void check_elsewhere(const Goal& goal, const WaitContext& context);
  /// Has another rank announced the operation with other masks? Those who disagree need not wait for anyone.
  [[nodiscard]] bool is_disputed(const Goal& goal, const WaitContext& context);
  [[noreturn]] void fail(ErrorCode code, const std::string& why, WaitFailure wait);
  void wake_sleepers() const noexcept { wake_sleepers_on(windows_.rank); }
  void wake_sleepers_on(int rank) const noexcept;

  // What Windows::mask_lost_ranks adds.
  [[nodiscard]] bool is_given_up(int rank, const Goal& goal) const noexcept;
  /// False if the rank came in the last moment.
  [[nodiscard]] bool give_up(int rank, const Goal& goal, const WaitContext& context);
  void note_loss(int rank, const Goal& goal, const WaitContext& context);
  [[nodiscard]] bool is_out_of_patience(const Deadline& deadline) const;
  /// After all others have come: throws if the operation cannot go on.
  void go_on_without(const std::vector<int>& lost, const Goal& goal, const WaitContext& context);
  [[nodiscard]] std::string cause_of_loss(int rank) const;
  [[nodiscard]] Error given_up_error(Phase phase, std::uint64_t epoch) const;
  /// Throws kState if the others go without this rank; the epoch is then retired.
  void check_standing(const WaitContext& context);
  /// Throws kState in an operation that this rank had begun before it was masked and let in again.
  void check_not_stale(std::uint64_t epoch, std::string_view operation) const;

  const Windows& windows_;
  Masks masks_;
  int spins_;  ///< polls before the first yield
  std::atomic<bool> broken_ = false;
  std::mutex retire_mutex_;
  std::set<std::uint64_t> retired_early_;  ///< retired, but an earlier epoch is not
  std::atomic<std::int64_t> last_loss_;    ///< ticks of the clock
};

}  // namespace crossdock::host
