// Slabs that other ranks read when it suits them.
#pragma once

#include <cstdint>
#include <mutex>
#include <vector>

#include <crossdock/tensor.hpp>

#include "backend/host/signals.hpp"

namespace crossdock::host {

/// What a rank staged for the others stays until they have read it, without its waiting for that. Thread-safe.
class StagedSlabs {
 public:
  void keep(std::uint64_t epoch, Tensor slab);
  /// All ranks that take part have retired the epochs up to this one.
  void release_until(std::uint64_t epoch);
  /// The same as far as all ranks of the group have. Cheap, and without system calls.
  void release_retired(const Windows& windows);
  /// Gives back what all others have read by now, those aside that are masked or gone.
  void release_read(const Signals& signals, int rank, int num_ranks);

 private:
  struct Entry {
    std::uint64_t epoch = 0;
    Tensor slab;
  };

  std::mutex mutex_;
  std::vector<Entry> entries_;
};

}  // namespace crossdock::host
