// All windows of the group, as this rank sees them.
#pragma once

#include <memory>
#include <vector>

#include "backend/host/peer_watch.hpp"
#include "backend/host/window.hpp"
#include "base/shared_memory.hpp"

namespace crossdock::host {

struct Windows {
  int rank = 0;
  WindowLayout layout;
  std::vector<std::shared_ptr<SharedMemory>> memory;  ///< [R]; the own one at `rank`
  PeerWatch watch;
  int usable_cores = 1;          ///< that all ranks of the group have together
  bool mask_lost_ranks = false;  ///< BufferOptions::mask_lost_ranks

  [[nodiscard]] int num_ranks() const noexcept { return static_cast<int>(memory.size()); }
  [[nodiscard]] std::byte* data(int of_rank) const noexcept {
    return memory[static_cast<std::size_t>(of_rank)]->data();
  }
  [[nodiscard]] WindowHeader& header(int of_rank) const noexcept {
    return *reinterpret_cast<WindowHeader*>(data(of_rank));
  }
  [[nodiscard]] Slot& slot(int of_rank, std::uint64_t epoch) const noexcept {
    return *reinterpret_cast<Slot*>(data(of_rank) + layout.slot_offset(epoch));
  }
  /// The epoch since which `by_rank` masks `of_rank`; 0: it does not.
  [[nodiscard]] std::atomic<std::uint64_t>& masked_since(int by_rank, int of_rank) const noexcept {
    return reinterpret_cast<std::atomic<std::uint64_t>*>(data(by_rank) + layout.masked_since_offset())[of_rank];
  }
  [[nodiscard]] std::atomic<std::uint64_t>& signal_of(int of_rank, Phase phase, std::uint64_t epoch) const noexcept {
    return slot(of_rank, epoch).signals[static_cast<std::size_t>(phase)];
  }
};

}  // namespace crossdock::host
