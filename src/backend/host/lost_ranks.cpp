// What Signals does when ranks are masked or lost.
#include <fmt/ranges.h>

#include <algorithm>
#include <chrono>

#include "backend/host/seals.hpp"
#include "backend/host/signals.hpp"
#include "base/error.hpp"

namespace crossdock::host {

namespace {

using Clock = std::chrono::steady_clock;

/// Those who are left reach the next phase at different times if one of them hears of a loss later than another.
constexpr std::chrono::milliseconds kShortestGrace{1000};
constexpr std::chrono::milliseconds kLongestGrace{86'400'000};

}  // namespace

bool Signals::is_excluded(int rank, std::uint64_t epoch) const {
  if (!masks_.in_use()) return false;
  if (masks_.is_masked(rank, epoch)) return true;
  return windows_.mask_lost_ranks &&
         is_sealed_for(windows_.signal_of(rank, Phase::kAnnounce, epoch).load(std::memory_order_acquire), epoch);
}

bool Signals::is_given_up(int rank, const Goal& goal) const noexcept {
  if (!windows_.mask_lost_ranks) return false;
  const std::uint64_t word = counter_of(rank, goal).load(std::memory_order_acquire);
  return goal.counter == Counter::kRetired ? is_sealed(word) : is_sealed_for(word, goal.required);
}

bool Signals::give_up(int rank, const Goal& goal, const WaitContext& context) {
  check_standing(context);  // a rank that was given up itself has no say
  auto& word = counter_of(rank, goal);
  const std::uint64_t required = masks_.signal_value(rank, goal.required);
  const std::uint64_t settled =
      goal.counter == Counter::kRetired ? seal_retired(word, required) : seal(word, required, kSealed | required);
  if (!is_sealed(settled)) return false;
  note_loss(rank, goal, context);
  wake_sleepers_on(rank);
  return true;
}

void Signals::note_loss(int rank, const Goal& goal, const WaitContext& context) {
  const std::uint64_t reached = counter_of(rank, goal).load(std::memory_order_acquire) & kEpochMask;
  lose(rank, goal.counter == Counter::kRetired ? reached + 1 : context.epoch);
}

void Signals::lose(int rank, std::uint64_t since) {
  if (masks_.lose(rank, since)) {
    last_loss_.store(Clock::now().time_since_epoch().count(), std::memory_order_relaxed);
  }
}

bool Signals::is_out_of_patience(const Deadline& deadline) const {
  if (!deadline.passed()) return false;
  const Clock::time_point last_loss{Clock::duration(last_loss_.load(std::memory_order_relaxed))};
  return Clock::now() >= last_loss + std::clamp(deadline.timeout(), kShortestGrace, kLongestGrace);
}

std::string Signals::cause_of_loss(int rank) const {
  const auto& header = windows_.header(rank);
  if (header.departure.load(std::memory_order_acquire) != Departure::kPresent) return header.departure_reason;
  return windows_.watch.is_dead(rank) ? "its process died" : "it did not come in time";
}

void Signals::go_on_without(const std::vector<int>& lost, const Goal& goal, const WaitContext& context) {
  for (const int rank : lost) note_loss(rank, goal, context);
  // Before a rank has announced, no one counts on it; when all are done only its own result is missing.
  if (goal.counter == Counter::kRetired || goal.phase == Phase::kAnnounce || goal.phase == Phase::kDone) return;
  retire(context.epoch);
  const int first = *std::ranges::min_element(lost);
  const std::uint64_t seen = counter_of(first, goal).load(std::memory_order_relaxed);
  Error error = make_error(ErrorCode::kPeerLost,
                           "rank {}: {}: lost rank(s) {}: {} (phase {}, epoch {}); masked from now on, the others may "
                           "call the operation again",
                           windows_.rank, context.operation, fmt::join(lost, ", "), cause_of_loss(first), context.phase,
                           context.epoch);
  error.with_wait({std::string(context.operation), std::string(context.phase), context.epoch, first, goal.required,
                   seen & kEpochMask});
  throw error.with_rank(first);
}

void Signals::check_not_stale(std::uint64_t epoch, std::string_view operation) const {
  if (epoch >= masks_.first_epoch(windows_.rank)) return;
  Error error = make_error(ErrorCode::kState,
                           "rank {}: {} of epoch {}: this rank was masked and let in again since the operation began",
                           windows_.rank, operation, epoch);
  throw error.with_rank(windows_.rank);
}

void Signals::check_records(std::uint64_t epoch, std::string_view operation) const {
  check_not_stale(epoch, operation);
  masks_.check_records(epoch, operation);
}

Error Signals::given_up_error(Phase phase, std::uint64_t epoch) const {
  Error error =
      make_error(ErrorCode::kState,
                 "rank {}: the others gave this rank up before it reached phase {} of epoch {}: it is masked, "
                 "and takes part again once they have cleared their masks",
                 windows_.rank, name_of(phase), epoch);
  return error.with_rank(windows_.rank);
}

void Signals::stop(Phase phase, std::uint64_t epoch) noexcept {
  if (!windows_.mask_lost_ranks || epoch < masks_.first_epoch(windows_.rank)) return;
  host::stop(windows_.signal_of(windows_.rank, phase, epoch), masks_.signal_value(windows_.rank, epoch));
  wake_sleepers();
}

bool Signals::has_stopped(int rank, Phase phase, std::uint64_t epoch) const noexcept {
  const std::uint64_t word = windows_.signal_of(rank, phase, epoch).load(std::memory_order_acquire);
  if (is_sealed_for(word, epoch) ? (word & kStopped) != 0 : (word & kEpochMask) >= epoch) return true;
  return (windows_.header(rank).retired.load(std::memory_order_acquire) & kEpochMask) >= epoch || has_ended(rank);
}

bool Signals::has_ended(int rank) const noexcept {
  return windows_.header(rank).departure.load(std::memory_order_acquire) == Departure::kLeft ||
         windows_.watch.is_dead(rank);
}

std::uint64_t Signals::readmit(std::uint64_t next, std::string_view operation, const std::function<void()>& finish) {
  if (!masks_.has_notice() || !masks_.answer_notice(next, operation)) return next;
  finish();
  const std::lock_guard lock(retire_mutex_);
  masks_.accept_admission();
  const std::uint64_t first = masks_.first_epoch(windows_.rank);
  retired_early_.clear();
  windows_.header(windows_.rank)
      .retired.store(masks_.signal_value(windows_.rank, first - 1), std::memory_order_release);
  wake_sleepers();
  return first;
}

}  // namespace crossdock::host
