// What the operations of one rank share.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "backend/cuda/communication_stream.hpp"
#include "backend/cuda/count_scratch.hpp"
#include "backend/cuda/device_guard.hpp"
#include "backend/cuda/device_windows.hpp"
#include "backend/cuda/kernel_queue.hpp"
#include "backend/cuda/rank_threads.hpp"
#include "backend/host/host_backend.hpp"

namespace crossdock::cuda {

/// Counts, places, signals and errors go through windows of the host; `group`'s arena lies on the device, and offsets
/// of tensors count from its beginning.
struct Node {
  std::optional<RankThreads> rank_threads;  ///< unless all other ranks are other processes
  std::shared_ptr<host::Group> group;
  DeviceWindows windows;
  std::shared_ptr<CommunicationStream> stream;
  std::unique_ptr<KernelQueue> queue;
  CountScratch count_scratch;
  std::size_t control_bytes = 0;  ///< of a window, before the arena
  int num_sharers = 1;            ///< ranks whose device is this rank's
  bool has_room_to_wait = false;  ///< a kernel of one rank keeps no other rank's from running
  bool counts_on_device = false;  ///< see Backend::keeps_counts_on_device

  /// Where a rank's window begins, with what the ranks of low-latency mode say to each other.
  [[nodiscard]] std::byte* window(int rank) const noexcept { return windows[static_cast<std::size_t>(rank)]->data(); }
  /// Where a rank's arena begins.
  [[nodiscard]] std::byte* data(int rank) const noexcept { return window(rank) + control_bytes; }

  /// A tensor's place in this rank's window on the device, for the others to find it. REQUIRES: it lies in the arena.
  [[nodiscard]] std::uint64_t offset_of(const Tensor& tensor) const {
    return static_cast<std::uint64_t>(tensor.data_as<std::byte>() - window(group->rank()));
  }

  /// Runs `body`, a kernel in the middle of an operation. If it fails the group is broken and the peers learn it: they
  /// would wait for this rank in vain.
  template <typename Body>
  void guarded(const Body& body) const {
    try {
      const DeviceGuard guard(stream->device().index);
      body();
    } catch (const Error& error) {
      group->signals.depart(host::Departure::kBroken, std::string("gave up: ") + error.what());
      throw;
    }
  }

  /// May such a kernel be launched before the host knows what it is to do? It waits for that on the device, so all
  /// ranks that share it need room there at once, and must not share its queues.
  [[nodiscard]] bool launches_ahead(Completion completion, int sms_of_config) const noexcept;

  /// Bit r: this rank sends rows to rank r, which takes part. `excluded` is [R], or empty.
  [[nodiscard]] std::uint64_t receivers(const plan::CountMatrix& counts, const std::vector<bool>& excluded) const;

  /// Multiprocessors that an operation may occupy: what the caller's Config says, or the default.
  [[nodiscard]] int num_sms(int of_config) const noexcept;
  /// The same for a kernel whose blocks wait for other ranks'.
  [[nodiscard]] int num_waiting_sms(int of_config) const noexcept;
};

}  // namespace crossdock::cuda
