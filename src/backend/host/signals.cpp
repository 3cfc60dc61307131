#include "backend/host/signals.hpp"

#include <linux/futex.h>
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstring>

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
    : windows_(windows), spins_(windows.num_ranks() > windows.usable_cores ? 0 : kSpins) {}

void Signals::open_epoch(std::uint64_t epoch, std::string_view operation, const Deadline& deadline) {
  if (is_broken()) throw make_error(ErrorCode::kState, "an earlier error broke this buffer; make a new one");
  if (epoch <= kNumSlots) return;
  wait_for({offsetof(WindowHeader, retired), epoch - kNumSlots}, {operation, "open", epoch}, deadline);
}

void Signals::signal(Phase phase, std::uint64_t epoch) {
  auto& word = windows_.slot(windows_.rank, epoch).signals[static_cast<std::size_t>(phase)];
  word.store(epoch, std::memory_order_release);  // matches the acquire in wait_for_rank
  wake_sleepers();
}

void Signals::wait_all(Phase phase, std::uint64_t epoch, std::string_view operation, const Deadline& deadline) {
  const std::size_t word = static_cast<std::size_t>(phase) * sizeof(std::atomic<std::uint64_t>);
  wait_for({windows_.layout.slot_offset(epoch) + offsetof(Slot, signals) + word, epoch},
           {operation, name_of(phase), epoch}, deadline);
}

void Signals::retire(std::uint64_t epoch) {
  const std::lock_guard lock(retire_mutex_);
  auto& retired = windows_.header(windows_.rank).retired;
  std::uint64_t last = retired.load(std::memory_order_relaxed);
  if (epoch != last + 1) {
    retired_early_.insert(epoch);
    return;
  }
  ++last;
  while (!retired_early_.empty() && *retired_early_.begin() == last + 1) {
    retired_early_.erase(retired_early_.begin());
    ++last;
  }
  retired.store(last, std::memory_order_release);  // matches the acquire in wait_for_rank
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

void Signals::wake_sleepers() const noexcept {
  auto& header = windows_.header(windows_.rank);
  // Orders the signal before the look at the sleepers; a sleeper counts itself before it looks at the signal
  // (sleep_on).
  std::atomic_thread_fence(std::memory_order_seq_cst);
  if (header.sleepers.load(std::memory_order_relaxed) == 0) return;
  header.doorbell.fetch_add(1, std::memory_order_relaxed);
  ::syscall(SYS_futex, &header.doorbell, FUTEX_WAKE, INT32_MAX, nullptr, nullptr, 0);
}

const std::atomic<std::uint64_t>& Signals::counter_of(int rank, const Goal& goal) const noexcept {
  return *reinterpret_cast<const std::atomic<std::uint64_t>*>(windows_.data(rank) + goal.offset);
}

void Signals::wait_for(const Goal& goal, const WaitContext& context, const Deadline& deadline) {
  const int num_ranks = windows_.num_ranks();
  for (int i = 1; i <= num_ranks; ++i) {  // ranks differ in where they begin, so that they do not all wait for one line
    const int rank = (windows_.rank + i) % num_ranks;
    if (counter_of(rank, goal).load(std::memory_order_acquire) >= goal.required) continue;
    wait_for_rank(rank, goal, context, deadline);
  }
}

void Signals::wait_for_rank(int rank, const Goal& goal, const WaitContext& context, const Deadline& deadline) {
  const std::atomic<std::uint64_t>& seen = counter_of(rank, goal);
  const auto has_come = [&] {
    return seen.load(std::memory_order_acquire) >= goal.required;
  };  // matches signal() and retire()
  for (int i = 0; i < spins_; ++i) {
    if (has_come()) return;
    pause_core();
  }
  // So that operations queued behind one that failed fail at once.
  if (is_broken()) throw make_error(ErrorCode::kState, "{}: an earlier error broke this buffer", context.operation);
  const auto begin = Clock::now();
  auto next_check = begin + kCheckInterval;
  for (auto now = begin; !has_come(); now = Clock::now()) {
    if (now - begin < kYieldTime) {
      for (int i = 0; i < kYieldsPerClock && !has_come(); ++i) ::sched_yield();
    } else {
      sleep_on(rank, goal);
    }
    if (now >= next_check || deadline.passed()) {
      check_missing(goal, context, deadline);
      next_check = now + kCheckInterval;
    }
  }
}

void Signals::sleep_on(int rank, const Goal& goal) const {
  auto& header = windows_.header(rank);
  header.sleepers.fetch_add(1, std::memory_order_relaxed);
  std::atomic_thread_fence(std::memory_order_seq_cst);  // pairs with the fence in wake_sleepers
  const std::uint32_t bell = header.doorbell.load(std::memory_order_relaxed);
  if (counter_of(rank, goal).load(std::memory_order_acquire) < goal.required &&
      header.departure.load(std::memory_order_acquire) == Departure::kPresent) {
    futex_wait(header.doorbell, bell, kSleepTime);
  }
  header.sleepers.fetch_sub(1, std::memory_order_relaxed);
}

void Signals::check_missing(const Goal& goal, const WaitContext& context, const Deadline& deadline) {
  if (is_broken())
    throw make_error(ErrorCode::kState, "{}: the buffer was destroyed or broken meanwhile", context.operation);
  std::string missing;
  WaitFailure wait{std::string(context.operation), std::string(context.phase), context.epoch, -1, goal.required, 0};
  for (int rank = 0; rank < windows_.num_ranks(); ++rank) {
    const auto& header = windows_.header(rank);
    const Departure departure = header.departure.load(std::memory_order_acquire);
    const bool is_gone = departure != Departure::kPresent || windows_.watch.is_dead(rank);
    const std::uint64_t seen =
        counter_of(rank, goal).load(std::memory_order_acquire);  // after the look at its departure
    if (seen >= goal.required) continue;
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
