#include "backend/host/staged_slabs.hpp"

#include <algorithm>
#include <utility>

namespace crossdock::host {

void StagedSlabs::keep(std::uint64_t epoch, Tensor slab) {
  const std::lock_guard lock(mutex_);
  entries_.push_back({epoch, std::move(slab)});
}

void StagedSlabs::release_until(std::uint64_t epoch) {
  const std::lock_guard lock(mutex_);
  std::erase_if(entries_, [epoch](const Entry& entry) { return entry.epoch <= epoch; });
}

void StagedSlabs::release_retired(const Windows& windows) {
  std::uint64_t last = kEpochMask;
  for (int rank = 0; rank < windows.num_ranks(); ++rank) {
    // Matches the release in Signals::retire.
    last = std::min(last, windows.header(rank).retired.load(std::memory_order_acquire) & kEpochMask);
  }
  release_until(last);
}

void StagedSlabs::release_read(const Signals& signals, int rank, int num_ranks) {
  const std::lock_guard lock(mutex_);
  std::erase_if(entries_, [&](const Entry& entry) {
    for (int reader = 0; reader < num_ranks; ++reader) {
      if (reader == rank || signals.masks().is_masked(reader, entry.epoch)) continue;
      if (!signals.has_stopped(reader, Phase::kDone, entry.epoch)) return false;
    }
    return true;
  });
}

}  // namespace crossdock::host
