// Which ranks an operation goes without, as this rank sees it, and how it tells the others.
#pragma once

#include <atomic>
#include <cstdint>
#include <limits>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include <crossdock/error.hpp>

#include "backend/host/windows.hpp"

namespace crossdock::host {

/// There are two kinds of masks. Those of the caller are for him to set alike on all ranks, and are compared. Ranks
/// that are lost (BufferOptions::mask_lost_ranks) need no comparison: a sealed word in the lost rank's own window says
/// the same to everybody; what is noted here only ends the patience with that rank.
///
/// A rank that masks another publishes since which epoch, and sets the notice in all windows, so that the masked rank
/// hears of it before its next operation. A rank that is let in again is admitted from a new epoch on, under a new
/// number in the high bits of its signals, so that none that it gave before is taken for a new one. Thread-safe.
class Masks {
 public:
  /// `windows` must outlive this.
  explicit Masks(const Windows& windows);

  /// Has a rank of the group ever been masked, as far as this one knows? Before that nothing else need be asked.
  [[nodiscard]] bool in_use() const noexcept { return in_use_.load(std::memory_order_relaxed); }

  /// From epoch `next` on. Nothing happens if it is so already.
  void mask(int rank, std::uint64_t next);
  /// Lets a rank in again, from epoch `next` on, whether it was masked by the caller or lost.
  void unmask(int rank, std::uint64_t next);
  /// Masked now, by the caller or lost; ascending.
  [[nodiscard]] std::vector<int> masked() const;
  /// Masked by the caller in the operation of `epoch`.
  [[nodiscard]] bool is_masked(int rank, std::uint64_t epoch) const;
  /// Writes the caller's masks into the own announcement of `epoch`.
  void announce(std::uint64_t epoch) const;

  /// To be called before the own slot of `epoch` is written, and before anything of kNumSlots epochs before is given
  /// up.
  void note_opened(std::uint64_t epoch) const noexcept;

  /// The rank takes no part from operation `since` on.
  /// Returns whether that is news.
  bool lose(int rank, std::uint64_t since);
  [[nodiscard]] bool is_lost(int rank) const;

  /// What a rank's signal for `epoch` reads at least.
  [[nodiscard]] std::uint64_t signal_value(int rank, std::uint64_t epoch) const noexcept {
    if (!in_use()) return epoch;
    const std::uint64_t admission = admission_of(rank);
    // An operation that is older than the admission is one of before it.
    const std::uint64_t count = (admission >> kEpochBits) - (epoch < (admission & kEpochMask) ? 1 : 0);
    return count << kEpochBits | epoch;
  }
  /// The first epoch in which a rank takes part since it was last admitted.
  [[nodiscard]] std::uint64_t first_epoch(int rank) const noexcept { return admission_of(rank) & kEpochMask; }

  /// Is there something for this rank to look at before its next operation?
  [[nodiscard]] bool has_notice() const noexcept {
    return windows_.header(windows_.rank).notice.load(std::memory_order_acquire) != 0;
  }
  /// Do others mask this rank in the operation of `epoch`? While they did not, they wait for it.
  [[nodiscard]] bool is_left_out(std::uint64_t epoch) const;
  /// Throws kState if they do.
  void check_not_masked(std::uint64_t epoch, std::string_view operation) const;
  /// The same, or if they may have written their records of that epoch again. What was read of them before is then
  /// nothing to rely on. To be called between reading them and acting on them.
  void check_records(std::uint64_t epoch, std::string_view operation) const;
  /// Answers the notice before operation `next`: throws kState if others mask this rank in it. Returns whether it was
  /// admitted anew: then first_epoch() of this rank is the epoch of its next operation, once accept() was called.
  [[nodiscard]] bool answer_notice(std::uint64_t next, std::string_view operation);
  void accept_admission();

 private:
  /// Of the caller's masks: the epochs [begin, end).
  struct Interval {
    std::uint64_t begin = 0;
    std::uint64_t end = std::numeric_limits<std::uint64_t>::max();
  };

  [[nodiscard]] std::uint64_t admission_of(int rank) const noexcept;
  void publish(int rank, std::uint64_t since);
  void notify_all() const noexcept;
  /// Ranks that mask this one and that it does not mask itself, if is_so(rank, since).
  template <class Predicate>
  [[nodiscard]] std::vector<int> masking(Predicate is_so) const;
  [[nodiscard]] bool is_open(int rank) const;

  const Windows& windows_;
  std::atomic<bool> in_use_ = false;
  std::atomic<std::uint64_t> own_admission_ = 0;
  mutable std::mutex mutex_;
  std::vector<std::vector<Interval>> intervals_;  ///< [R]
  std::vector<bool> lost_;                        ///< [R]
};

/// "masked by rank(s) 0, 2": kState of a rank that the others go without.
[[nodiscard]] Error masked_error(int rank, std::string_view operation, const std::vector<int>& by);

}  // namespace crossdock::host
