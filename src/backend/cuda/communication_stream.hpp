// The stream that a rank's kernels run on, and how the host learns that one is through.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <vector>

#include <crossdock/tensor.hpp>

#include "backend/cuda/arrays.hpp"
#include "backend/cuda/device/completion.hpp"
#include "base/deadline.hpp"

namespace crossdock::cuda {

/// Thread-safe. Tensors keep it alive.
class CommunicationStream : public std::enable_shared_from_this<CommunicationStream> {
 public:
  /// Throws kUnsupported if there is no such device.
  explicit CommunicationStream(int device);
  CommunicationStream(const CommunicationStream&) = delete;
  CommunicationStream& operator=(const CommunicationStream&) = delete;
  ~CommunicationStream();

  [[nodiscard]] cudaStream_t get() const noexcept { return stream_; }
  [[nodiscard]] Device device() const noexcept { return {DeviceType::kCuda, device_}; }
  [[nodiscard]] int num_multiprocessors() const noexcept { return num_multiprocessors_; }

  /// Memory of the device, used again in the stream's order. Contents undefined. Throws kCapacity.
  [[nodiscard]] Tensor allocate(DataType dtype, std::span<const std::int64_t> shape);

  /// A flag that no other kernel writes until it is given back.
  struct Ticket {
    std::size_t flag = 0;
    device::Completion completion;
  };
  /// Throws kCapacity if all are taken.
  [[nodiscard]] Ticket take_ticket();
  void give_back(const Ticket& ticket) noexcept;
  /// Has the kernel that was given the ticket's completion ended? What it wrote may then be used everywhere.
  [[nodiscard]] static bool is_through(const Ticket& ticket) noexcept;

  /// Launches what `launch` is given a completion for, and waits until it is through: what the kernel wrote may then be
  /// used everywhere. Throws kSystem if it could not run, kTimeout if it did not end in time.
  template <typename Launch>
  void run(const Launch& launch, const Deadline& deadline) {
    const Ticket ticket = take_ticket();
    try {
      launch(ticket.completion);
      await(ticket, deadline);
    } catch (...) {
      give_back(ticket);
      throw;
    }
    give_back(ticket);
  }

 private:
  void await(const Ticket& ticket, const Deadline& deadline) const;

  int device_;
  int num_multiprocessors_ = 0;
  cudaStream_t stream_ = nullptr;
  cudaMemPool_t pool_ = nullptr;
  DeviceArray<std::uint32_t> blocks_ended_;
  PinnedArray<std::uint64_t> flags_;
  std::mutex mutex_;
  std::vector<std::size_t> free_flags_;
  std::uint64_t last_value_ = 0;
};

/// A copy in host memory, in the stream's order; waits for it. REQUIRES: contiguous; its device is the current one.
[[nodiscard]] Tensor copy_to_host(const Tensor& tensor, cudaStream_t stream);

}  // namespace crossdock::cuda
