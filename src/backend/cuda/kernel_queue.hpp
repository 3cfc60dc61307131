// The kernels of one rank that wait for other ranks', in the order in which its host began the operations.
#pragma once

#include <cuda_runtime_api.h>

#include <array>
#include <atomic>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <stop_token>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include <crossdock/buffer.hpp>

#include "backend/cuda/arrays.hpp"
#include "backend/cuda/capture_slabs.hpp"
#include "backend/cuda/communication_stream.hpp"
#include "backend/cuda/device/notices.hpp"
#include "backend/cuda/device/readmission.hpp"
#include "backend/cuda/device_windows.hpp"
#include "backend/host/host_backend.hpp"

namespace crossdock::cuda {

/// One operation of the queue.
struct Launch {
  std::string_view operation{};
  cudaStream_t stream = nullptr;
  std::uint64_t ordinal = 0;                                    ///< of the operation on this rank
  std::uint64_t epoch = 0;                                      ///< as Buffer counts operations
  std::shared_ptr<void> open_hook{};                            ///< of an operation whose second half has not begun
  std::shared_ptr<const CommunicationStream::Ticket> ticket{};  ///< null unless the host waits for it
  std::shared_ptr<CaptureSlabs> captured{};  ///< null unless the stream is being captured into a graph

  [[nodiscard]] device::Completion completion() const noexcept {
    return ticket ? ticket->completion : device::Completion{};
  }
};

/// Kernels run one after the other, whatever streams they are given to. Graphs and other operations of the same buffer
/// must be ordered by the caller, most simply by one stream.
///
/// A kernel that fails tells the host through a mailbox. An operation that the host waits for throws then; failures of
/// the others are thrown by the next call. Thread-safe.
class KernelQueue {
 public:
  /// `num_sharers` ranks use this device.
  KernelQueue(std::shared_ptr<host::Group> group, DeviceWindows windows, std::shared_ptr<CommunicationStream> stream,
              int max_experts, int num_sharers);
  KernelQueue(const KernelQueue&) = delete;
  KernelQueue& operator=(const KernelQueue&) = delete;
  ~KernelQueue();

  /// Begins an operation, on the caller's stream or on one of its own.
  [[nodiscard]] Launch begin(std::string_view operation, std::uint64_t epoch, Completion completion,
                             const Stream& caller);
  /// Begins what concerns this rank only, on the caller's stream.
  [[nodiscard]] Launch begin_local(const Stream& caller);
  /// Before the second half of an operation with a hook.
  void resume(Launch& launch);
  /// After each half of the operation.
  void note_launched(const Launch& launch);
  /// `epoch` is the operation's own word on the device.
  [[nodiscard]] device::Party party(const Launch& launch, device::Phases phases, const Tensor& epoch,
                                    Milliseconds timeout, const std::optional<Tensor>& wait_costs) const;
  /// Multiprocessors for a kernel whose blocks wait for other ranks': those of all ranks must run at once.
  [[nodiscard]] int num_sms() const noexcept { return num_sms_; }
  /// What it may have at most.
  [[nodiscard]] int most_sms() const noexcept { return most_sms_; }

  /// All of them or none, as Group::allocate.
  void allocate(const Launch& launch, std::span<const host::WantedTensor> tensors);
  /// What the kernels of all ranks read stays until they have read it.
  void keep(const Launch& launch, Tensor slab);
  /// Gives back what was kept and has been read. Asks the device.
  void release_read();

  /// See Backend::throw_unawaited.
  void throw_unawaited();
  /// Of ranks that operations which have ended went without: the host masks them too.
  void hear_of_losses();
  /// Waits until the operation has ended, and throws what it ended with. REQUIRES: launch.ticket.
  void await(const Launch& launch, const Deadline& deadline);
  /// Tells the others that this rank does not do its next operation.
  void refuse(const Stream& caller, const Error& reason, Milliseconds timeout);
  /// Instead of the second half of an operation.
  void abandon(Launch& launch, const Tensor& epoch);
  /// A copy of a contiguous tensor, once the operations that were begun before have ended. After a launch of a graph
  /// the caller must wait for that first.
  [[nodiscard]] Tensor copy_to_host(const Tensor& tensor);
  /// Bit r: operations go without rank r, from the next one on; the ranks of `admitted` have missed operations and come
  /// back. Throws kState if hooks are to be called that belong to operations before.
  void set_masks(std::uint64_t masked, std::uint64_t admitted);
  /// This rank was masked and is let in again.
  void come_back(std::uint64_t masked);

 private:
  static constexpr Milliseconds kLongest = std::chrono::hours(24 * 365);
  static constexpr Milliseconds kWatchInterval{20};  ///< between two looks at the peers

  /// With the lock.
  void order(const Launch& launch);
  /// Given back with the last copy.
  [[nodiscard]] bool has_kept();
  void release_kept();
  /// Tells the kernels which ranks will not come.
  void watch_peers();
  /// The same of this rank, if others mask it in the operation of `epoch`.
  void note_masked(std::uint64_t epoch);
  /// Watches the peers until it is to stop.
  void watch(const std::stop_token& stop);
  /// With the lock.
  void note_losses();
  void readmit(const device::ReadmissionArgs& args);
  [[nodiscard]] Error take(device::Failure& failure, std::string_view operation, Milliseconds timeout);
  [[nodiscard]] std::string reason_of(int rank, std::uint64_t epoch) const;

  struct Kept {
    std::uint64_t ordinal = 0;
    Tensor slab;
  };

  std::shared_ptr<host::Group> group_;
  DeviceWindows windows_;
  std::shared_ptr<CommunicationStream> stream_;
  /// Of operations that the host waits for. Kernels that wait for no one run on the buffer's stream, and must not wait
  /// behind these: another rank may need them first.
  cudaStream_t own_stream_ = nullptr;
  cudaEvent_t allocated_ = nullptr;  ///< what was allocated on the buffer's stream is there
  int max_experts_;
  int most_sms_;
  int num_sms_;
  PinnedArray<device::Mailbox> mailbox_;
  cudaEvent_t order_ = nullptr;

  std::mutex mutex_;
  std::uint64_t last_ordinal_ = 0;
  std::uint64_t last_epoch_ = 0;    ///< as Launch::epoch
  std::uint64_t losses_noted_ = 0;  ///< of Mailbox::lost
  bool was_launched_ = false;
  cudaStream_t last_stream_ = nullptr;
  bool was_captured_ = false;  ///< the last one
  std::weak_ptr<CaptureSlabs> last_capture_;
  std::deque<Kept> kept_;
  /// Of kernels that no one waits for any more, and that have still to write to them.
  std::vector<std::shared_ptr<const CommunicationStream::Ticket>> late_;
  std::uint64_t failures_taken_ = 0;
  std::shared_ptr<std::atomic<int>> open_hooks_ = std::make_shared<std::atomic<int>>(0);  ///< Launch::open_hook alive
  std::array<std::uint64_t, device::Mailbox::kFailures> awaited_{};  ///< ordinals, at their own place
  /// With BufferOptions::mask_lost_ranks: kernels that no host waits for hear of ranks that died, too.
  std::jthread watcher_;
};

}  // namespace crossdock::cuda
