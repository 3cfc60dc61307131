#include "backend/host/kept_slabs.hpp"

#include <utility>

namespace crossdock::host {

void KeptSlabs::keep(std::uint64_t epoch, std::vector<Tensor> slabs) {
  const std::lock_guard lock(mutex_);
  entries_.push_back({epoch, std::move(slabs)});
  has_any_.store(true, std::memory_order_relaxed);
}

void KeptSlabs::release(const Signals& signals, int rank, int num_ranks) {
  if (!has_any_.load(std::memory_order_relaxed)) return;
  const std::lock_guard lock(mutex_);
  entries_.remove_if([&](const Entry& entry) {
    for (int writer = 0; writer < num_ranks; ++writer) {
      if (writer != rank && !signals.has_stopped(writer, Phase::kSend, entry.epoch)) return false;
    }
    return true;
  });
  has_any_.store(!entries_.empty(), std::memory_order_relaxed);
}

}  // namespace crossdock::host
