#include "backend/host/signals.hpp"

#include <linux/futex.h>
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstring>
#include <limits>

#include "backend/host/agreement.hpp"
#include "backend/host/seals.hpp"
#include "base/error.hpp"

namespace crossdock::host {

namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::microseconds;
using std::chrono::milliseconds;

// With a core for each rank the other side is about to signal: polling finds that soonest. With more ranks than cores
// the other side may need this core: polling would cost it whole scheduler slices. A sleeping core takes tens of
// microseconds to wake, so sleeping is for waits that have lasted long anyway.
constexpr int kSpins = 2000;
constexpr int kYieldsPerClock = 16;  ///< yields between two looks at the clock
constexpr milliseconds kYieldTime{2};
constexpr milliseconds kSleepTime{20};      ///< the longest sleep between two looks
constexpr milliseconds kCheckInterval{50};  ///< how soon a lost peer is noticed

void pause_core() noexcept {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

void futex_wait(const std::atomic<std::uint32_t>& word, std::uint32_t seen, milliseconds longest) noexcept {
  const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(longest);
  const timespec timeout{seconds.count(), std::chrono::nanoseconds(longest - seconds).count()};
  ::syscall(SYS_futex, &word, FUTEX_WAIT, seen, &timeout, nullptr, 0);
}

}  // namespace

Signals::Signals(const Windows& windows)
    : windows_(windows),
      masks_(windows),
      spins_(windows.num_ranks() > windows.usable_cores ? 0 : kSpins),
      last_loss_(std::numeric_limits<std::int64_t>::min()) {}

void Signals::open_epoch(std::uint64_t epoch, std::string_view operation, const Deadline& deadline) {
  if (is_broken()) throw make_error(ErrorCode::kState, "an earlier error broke this buffer; make a new one");
  const WaitContext context{operation, "open", epoch};
  check_standing(context);
  if (epoch <= kNumSlots) return;
  wait_for({Counter::kRetired, Phase::kAnnounce, epoch - kNumSlots, offsetof(WindowHeader, retired)}, context,
           deadline);
  masks_.note_opened(epoch);
}

void Signals::signal(Phase phase, std::uint64_t epoch) {
  check_not_stale(epoch, name_of(phase));
  if (phase == Phase::kAnnounce) masks_.announce(epoch);
  auto& word = windows_.signal_of(windows_.rank, phase, epoch);
  const std::uint64_t value = masks_.signal_value(windows_.rank, epoch);
  if (!windows_.mask_lost_ranks) {
    word.store(value, std::memory_order_release);  // matches the acquire in has_come
  } else if (!try_signal(word, value)) {
    stop(phase, epoch);
    retire(epoch);
    throw given_up_error(phase, epoch);
  }
  wake_sleepers();
}

void Signals::wait_all(Phase phase, std::uint64_t epoch, std::string_view operation, const Deadline& deadline,
                       WaitCosts costs) {
  check_not_stale(epoch, operation);
  const std::size_t word = static_cast<std::size_t>(phase) * sizeof(std::atomic<std::uint64_t>);
  wait_for({Counter::kSignal, phase, epoch, windows_.layout.slot_offset(epoch) + offsetof(Slot, signals) + word},
           {operation, name_of(phase), epoch}, deadline, costs);
}

void Signals::retire(std::uint64_t epoch) {
  const std::lock_guard lock(retire_mutex_);
  auto& retired = windows_.header(windows_.rank).retired;
  std::uint64_t seen = retired.load(std::memory_order_relaxed);
  std::uint64_t last = seen & kEpochMask;
  if (epoch <= last) return;
  if (epoch != last + 1) {
    retired_early_.insert(epoch);
    return;
  }
  ++last;
  while (!retired_early_.empty() && *retired_early_.begin() == last + 1) {
    retired_early_.erase(retired_early_.begin());
    ++last;
  }
  const std::uint64_t value = masks_.signal_value(windows_.rank, last);
  if (!windows_.mask_lost_ranks) {
    retired.store(value, std::memory_order_release);  // matches the acquire in has_come
  } else if (is_sealed(seen) || !retired.compare_exchange_strong(seen, value, std::memory_order_release)) {
    return;  // given up: the others wait for it no more
  }
  wake_sleepers();
}

void Signals::depart(Departure departure, std::string_view reason) noexcept {
  const std::lock_guard lock(retire_mutex_);
  auto& header = windows_.header(windows_.rank);
  broken_.store(true, std::memory_order_release);
  if (header.departure.load(std::memory_order_relaxed) != Departure::kPresent) return;
  const std::size_t length = std::min(reason.size(), sizeof(header.departure_reason) - 1);
  std::memcpy(header.departure_reason, reason.data(), length);
  header.departure.store(departure, std::memory_order_release);  // matches the acquire in check_missing
  wake_sleepers();
}

bool Signals::is_gone(int rank) const noexcept {
  return windows_.header(rank).departure.load(std::memory_order_acquire) != Departure::kPresent ||
         windows_.watch.is_dead(rank);
}

void Signals::wake_sleepers_on(int rank) const noexcept {
  auto& header = windows_.header(rank);
  // Orders the signal before the look at the sleepers; a sleeper counts itself before it looks at the signal
  // (sleep_on).
  std::atomic_thread_fence(std::memory_order_seq_cst);
  if (header.sleepers.load(std::memory_order_relaxed) == 0) return;
  header.doorbell.fetch_add(1, std::memory_order_relaxed);
  ::syscall(SYS_futex, &header.doorbell, FUTEX_WAKE, INT32_MAX, nullptr, nullptr, 0);
}

std::atomic<std::uint64_t>& Signals::counter_of(int rank, const Goal& goal) const noexcept {
  return *reinterpret_cast<std::atomic<std::uint64_t>*>(windows_.data(rank) + goal.offset);
}

bool Signals::has_come(int rank, const Goal& goal) const noexcept {
  // Matches signal() and retire().
  return has_reached(counter_of(rank, goal).load(std::memory_order_acquire), masks_.signal_value(rank, goal.required));
}

bool Signals::is_awaited(int rank, const Goal& goal, std::uint64_t epoch) const {
  if (!masks_.in_use()) return true;
  if (masks_.is_masked(rank, epoch)) return false;
  if (goal.counter == Counter::kRetired) return goal.required >= masks_.first_epoch(rank);
  return goal.phase == Phase::kAnnounce || !is_excluded(rank, epoch);
}

void Signals::wait_for(const Goal& goal, const WaitContext& context, const Deadline& deadline, WaitCosts costs) {
  const int num_ranks = windows_.num_ranks();
  std::vector<int> lost;
  for (int i = 1; i <= num_ranks; ++i) {  // ranks differ in where they begin, so that they do not all wait for one line
    const int rank = (windows_.rank + i) % num_ranks;
    if (has_come(rank, goal)) continue;
    if (!is_awaited(rank, goal, context.epoch)) continue;
    const auto begin = costs.empty() ? Clock::time_point() : Clock::now();
    if (!wait_for_rank(rank, goal, context, deadline)) lost.push_back(rank);
    if (costs.empty()) continue;
    // Operations in flight may share the statistics.
    std::atomic_ref(costs[static_cast<std::size_t>(rank)])
        .fetch_add(std::chrono::nanoseconds(Clock::now() - begin).count(), std::memory_order_relaxed);
  }
  if (!lost.empty()) go_on_without(lost, goal, context);
}

bool Signals::wait_for_rank(int rank, const Goal& goal, const WaitContext& context, const Deadline& deadline) {
  const auto is_hopeless = [&] {
    return windows_.mask_lost_ranks &&
           (is_given_up(rank, goal) || (masks_.is_lost(rank) && give_up(rank, goal, context)));
  };
  const int spins = masks_.is_lost(rank) ? 0 : spins_;
  for (int i = 0; i < spins; ++i) {
    if (has_come(rank, goal)) return true;
    pause_core();
  }
  // So that operations queued behind one that failed fail at once.
  if (is_broken()) throw make_error(ErrorCode::kState, "{}: an earlier error broke this buffer", context.operation);
  const auto begin = Clock::now();
  auto next_check = begin + kCheckInterval;
  for (auto now = begin; !has_come(rank, goal); now = Clock::now()) {
    if (is_hopeless()) return false;
    check_standing(context);
    if (is_disputed(goal, context)) return true;
    if (now - begin < kYieldTime) {
      for (int i = 0; i < kYieldsPerClock && !has_come(rank, goal); ++i) ::sched_yield();
    } else {
      sleep_on(rank, goal);
    }
    if (now >= next_check || deadline.passed()) {
      check_elsewhere(goal, context);
      check_missing(goal, context, deadline);
      next_check = now + kCheckInterval;
    }
  }
  return true;
}

void Signals::sleep_on(int rank, const Goal& goal) const {
  auto& header = windows_.header(rank);
  header.sleepers.fetch_add(1, std::memory_order_relaxed);
  std::atomic_thread_fence(std::memory_order_seq_cst);  // pairs with the fence in wake_sleepers_on
  const std::uint32_t bell = header.doorbell.load(std::memory_order_relaxed);
  if (!has_come(rank, goal) && !is_given_up(rank, goal) &&
      header.departure.load(std::memory_order_acquire) == Departure::kPresent) {
    futex_wait(header.doorbell, bell, kSleepTime);
  }
  header.sleepers.fetch_sub(1, std::memory_order_relaxed);
}

bool Signals::is_disputed(const Goal& goal, const WaitContext& context) {
  if (goal.counter == Counter::kSignal && goal.phase != Phase::kAnnounce) return false;
  try {
    check_masks(windows_, masks_, context.epoch, context.operation);
    return false;
  } catch (const Error& error) {
    // Before it has announced, this rank goes on, so that the others learn of its masks too.
    if (goal.counter == Counter::kRetired && error.code() == ErrorCode::kMismatch) return true;
    retire(context.epoch);
    throw;
  }
}

void Signals::check_standing(const WaitContext& context) {
  try {
    check_not_stale(context.epoch, context.operation);
    masks_.check_not_masked(context.epoch, context.operation);
  } catch (const Error&) {
    retire(context.epoch);
    throw;
  }
}

void Signals::check_elsewhere(const Goal& goal, const WaitContext& context) {
  if (goal.counter != Counter::kSignal || goal.phase != Phase::kAnnounce) return;
  for (int rank = 0; rank < windows_.num_ranks(); ++rank) {
    if (!is_awaited(rank, goal, context.epoch)) continue;
    // Matches retire(): what it has announced before is seen then.
    const std::uint64_t retired = windows_.header(rank).retired.load(std::memory_order_acquire);
    if (!has_reached(retired, masks_.signal_value(rank, context.epoch)) || has_come(rank, goal)) continue;
    retire(context.epoch);
    Error error = make_error(ErrorCode::kMismatch,
                             "rank {}: {}: rank {} has called something else: a low-latency operation, a dispatch with "
                             "num_worst_tokens, or one that uses such a dispatch's handle",
                             windows_.rank, context.operation, rank);
    throw ElsewhereError(error.with_rank(rank));
  }
}

void Signals::check_missing(const Goal& goal, const WaitContext& context, const Deadline& deadline) {
  if (is_broken())
    throw make_error(ErrorCode::kState, "{}: the buffer was destroyed or broken meanwhile", context.operation);
  std::string missing;
  WaitFailure wait{std::string(context.operation), std::string(context.phase), context.epoch, -1, goal.required, 0};
  for (int rank = 0; rank < windows_.num_ranks(); ++rank) {
    if (!is_awaited(rank, goal, context.epoch)) continue;
    const auto& header = windows_.header(rank);
    const Departure departure = header.departure.load(std::memory_order_acquire);
    const bool is_gone = departure != Departure::kPresent || windows_.watch.is_dead(rank);
    if (has_come(rank, goal)) continue;  // after the look at its departure
    const std::uint64_t seen = counter_of(rank, goal).load(std::memory_order_relaxed) & kEpochMask;
    if (windows_.mask_lost_ranks && rank != windows_.rank) {
      if (is_gone || is_out_of_patience(deadline)) static_cast<void>(give_up(rank, goal, context));
      continue;
    }
    if (is_gone) {
      wait.rank = rank;
      wait.seen = seen;
      fail(ErrorCode::kPeerLost,
           departure == Departure::kPresent ? fmt::format("the process of rank {} died", rank)
                                            : fmt::format("rank {} {}", rank, header.departure_reason),
           wait);
    }
    if (wait.rank < 0) {
      wait.rank = rank;
      wait.seen = seen;
    }
    missing += fmt::format("{}{}", missing.empty() ? "" : ", ", rank);
  }
  if (wait.rank >= 0 && deadline.passed()) {
    fail(ErrorCode::kTimeout, fmt::format("rank(s) {} did not come within {} ms", missing, deadline.timeout().count()),
         wait);
  }
}

void Signals::fail(ErrorCode code, const std::string& why, WaitFailure wait) {
  Error error =
      make_error(code, "rank {}: {}: {} (phase {}, epoch {}, waited for rank {}: expected {}, seen {})", windows_.rank,
                 wait.operation, why, wait.phase, wait.epoch, wait.rank, wait.expected, wait.seen);
  error.with_wait(wait);
  depart(Departure::kBroken, fmt::format("gave up: {}", why));
  throw error;
}

}  // namespace crossdock::host
