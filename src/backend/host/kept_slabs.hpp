// Slabs of failed operations that another rank may still write to.
#pragma once

#include <atomic>
#include <cstdint>
#include <list>
#include <mutex>
#include <vector>

#include <crossdock/tensor.hpp>

#include "backend/host/signals.hpp"

namespace crossdock::host {

/// A rank that is given up as lost may only be slow, and store rows where it was told to. The slabs that it may write
/// to are not given out again until every rank is known to have stopped (Signals::has_stopped). Thread-safe.
class KeptSlabs {
 public:
  void keep(std::uint64_t epoch, std::vector<Tensor> slabs);
  /// Gives back what no one writes to any more.
  void release(const Signals& signals, int rank, int num_ranks);

 private:
  struct Entry {
    std::uint64_t epoch = 0;
    std::vector<Tensor> slabs;
  };

  std::atomic<bool> has_any_ = false;
  std::mutex mutex_;
  std::list<Entry> entries_;
};

}  // namespace crossdock::host
