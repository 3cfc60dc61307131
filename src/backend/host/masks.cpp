#include "backend/host/masks.hpp"

#include <fmt/ranges.h>

#include <algorithm>

#include "base/error.hpp"
#include "base/logging.hpp"

namespace crossdock::host {

namespace {

/// Counts the rank in again from epoch `next` on; ranks that do so for the same epoch count once.
void admit(std::atomic<std::uint64_t>& admission, std::uint64_t next) {
  constexpr std::uint64_t kMostAdmissions = (kStopped >> kEpochBits) - 1;
  std::uint64_t seen = admission.load(std::memory_order_acquire);
  while ((seen & kEpochMask) < next) {
    const std::uint64_t count = (seen >> kEpochBits) + 1;
    if (count > kMostAdmissions)
      throw make_error(ErrorCode::kCapacity, "a rank can be let in again {} times, not more", kMostAdmissions);
    if (admission.compare_exchange_weak(seen, count << kEpochBits | next, std::memory_order_acq_rel,
                                        std::memory_order_acquire))
      return;
  }
}

}  // namespace

Error masked_error(int rank, std::string_view operation, const std::vector<int>& by) {
  Error error = make_error(ErrorCode::kState,
                           "rank {}: {}: this rank is masked by rank(s) {}; it takes part again once they have cleared "
                           "their masks",
                           rank, operation, fmt::join(by, ", "));
  return error.with_rank(rank);
}

Masks::Masks(const Windows& windows)
    : windows_(windows),
      intervals_(static_cast<std::size_t>(windows.num_ranks())),
      lost_(static_cast<std::size_t>(windows.num_ranks())) {}

std::uint64_t Masks::admission_of(int rank) const noexcept {
  if (rank == windows_.rank) return own_admission_.load(std::memory_order_acquire);
  return windows_.header(rank).admission.load(std::memory_order_acquire);
}

bool Masks::is_open(int rank) const {
  const auto& intervals = intervals_[static_cast<std::size_t>(rank)];
  return !intervals.empty() && intervals.back().end == Interval{}.end;
}

void Masks::publish(int rank, std::uint64_t since) {
  auto& published = windows_.masked_since(windows_.rank, rank);
  const std::uint64_t before = published.load(std::memory_order_relaxed);
  if (before != 0 && before <= since) return;
  published.store(since, std::memory_order_release);  // matches the acquire in masking()
}

void Masks::notify_all() const noexcept {
  for (int rank = 0; rank < windows_.num_ranks(); ++rank) {
    windows_.header(rank).notice.store(1, std::memory_order_release);  // matches the acquire in has_notice()
  }
}

void Masks::mask(int rank, std::uint64_t next) {
  const std::lock_guard lock(mutex_);
  in_use_.store(true, std::memory_order_relaxed);
  if (is_open(rank)) return;
  intervals_[static_cast<std::size_t>(rank)].push_back({next});
  publish(rank, next);
  notify_all();
}

void Masks::unmask(int rank, std::uint64_t next) {
  const std::lock_guard lock(mutex_);
  auto& published = windows_.masked_since(windows_.rank, rank);
  const std::uint64_t since = published.load(std::memory_order_relaxed);
  if (since == 0) return;
  // Masked and let in between two operations, it has missed nothing.
  if (since < next) admit(windows_.header(rank).admission, next);
  auto& intervals = intervals_[static_cast<std::size_t>(rank)];
  if (is_open(rank)) intervals.back().end = next;
  std::erase_if(intervals, [next](const Interval& i) { return i.begin >= i.end || i.end + kNumSlots < next; });
  lost_[static_cast<std::size_t>(rank)] = false;
  published.store(0, std::memory_order_release);  // after the admission, for whoever sees no mask any more
  notify_all();
}

std::vector<int> Masks::masked() const {
  const std::lock_guard lock(mutex_);
  std::vector<int> result;
  for (int rank = 0; rank < windows_.num_ranks(); ++rank) {
    if (is_open(rank) || lost_[static_cast<std::size_t>(rank)]) result.push_back(rank);
  }
  return result;
}

bool Masks::is_masked(int rank, std::uint64_t epoch) const {
  if (!in_use()) return false;
  const std::lock_guard lock(mutex_);
  return std::ranges::any_of(intervals_[static_cast<std::size_t>(rank)],
                             [epoch](const Interval& i) { return i.begin <= epoch && epoch < i.end; });
}

void Masks::announce(std::uint64_t epoch) const {
  if (!in_use()) return;
  Slot& slot = windows_.slot(windows_.rank, epoch);
  const auto flags = windows_.layout.masked(slot);
  slot.announcement.num_masked = 0;
  for (int rank = 0; rank < windows_.num_ranks(); ++rank) {
    const bool masked = is_masked(rank, epoch);
    flags[static_cast<std::size_t>(rank)] = masked ? 1 : 0;
    if (masked) ++slot.announcement.num_masked;
  }
}

void Masks::note_opened(std::uint64_t epoch) const noexcept {
  if (!in_use()) return;
  auto& opened = windows_.header(windows_.rank).opened;
  std::uint64_t seen = opened.load(std::memory_order_relaxed);
  while (seen < epoch && !opened.compare_exchange_weak(seen, epoch, std::memory_order_relaxed)) {
  }
  std::atomic_thread_fence(std::memory_order_release);  // before the records; matches the fence in check_records
}

bool Masks::lose(int rank, std::uint64_t since) {
  const std::lock_guard lock(mutex_);
  in_use_.store(true, std::memory_order_relaxed);
  publish(rank, since);
  notify_all();
  if (lost_[static_cast<std::size_t>(rank)]) return false;
  lost_[static_cast<std::size_t>(rank)] = true;
  logger().warn("rank {}: rank {} is lost and masked from operation {} on", windows_.rank, rank, since);
  return true;
}

bool Masks::is_lost(int rank) const {
  if (!in_use()) return false;
  const std::lock_guard lock(mutex_);
  return lost_[static_cast<std::size_t>(rank)];
}

template <class Predicate>
std::vector<int> Masks::masking(Predicate is_so) const {
  const std::lock_guard lock(mutex_);
  std::vector<int> result;
  for (int by = 0; by < windows_.num_ranks(); ++by) {
    if (by == windows_.rank || is_open(by) || lost_[static_cast<std::size_t>(by)]) continue;
    const std::uint64_t since = windows_.masked_since(by, windows_.rank).load(std::memory_order_acquire);
    if (since != 0 && is_so(by, since)) result.push_back(by);
  }
  return result;
}

bool Masks::is_left_out(std::uint64_t epoch) const {
  return has_notice() && !masking([epoch](int, std::uint64_t since) { return since <= epoch; }).empty();
}

void Masks::check_not_masked(std::uint64_t epoch, std::string_view operation) const {
  if (!is_left_out(epoch)) return;
  throw masked_error(windows_.rank, operation, masking([](int, std::uint64_t) { return true; }));
}

void Masks::check_records(std::uint64_t epoch, std::string_view operation) const {
  std::atomic_thread_fence(std::memory_order_acquire);  // the records were read before this look at the notice
  if (!has_notice()) return;
  const auto by = masking([&](int rank, std::uint64_t since) {
    return since <= epoch || windows_.header(rank).opened.load(std::memory_order_acquire) >= epoch + kNumSlots;
  });
  if (!by.empty()) throw masked_error(windows_.rank, operation, by);
}

bool Masks::answer_notice(std::uint64_t next, std::string_view operation) {
  auto& notice = windows_.header(windows_.rank).notice;
  notice.store(0, std::memory_order_seq_cst);  // before the looks: what is masked after them sets it again
  in_use_.store(true, std::memory_order_relaxed);
  const auto by = masking([](int, std::uint64_t) { return true; });
  if (!by.empty()) notice.store(1, std::memory_order_relaxed);
  check_not_masked(next, operation);
  const auto& admission = windows_.header(windows_.rank).admission;
  return admission.load(std::memory_order_acquire) >> kEpochBits !=
         own_admission_.load(std::memory_order_relaxed) >> kEpochBits;
}

void Masks::accept_admission() {
  own_admission_.store(windows_.header(windows_.rank).admission.load(std::memory_order_acquire),
                       std::memory_order_release);
}

}  // namespace crossdock::host
