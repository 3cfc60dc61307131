// The stream that a rank's kernels run on, and how the host learns that one is through.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>
#include <functional>
#include <map>
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
  /// `order_words` is the most that an order has. Throws kUnsupported if there is no such device.
  CommunicationStream(int device, std::size_t order_words);
  CommunicationStream(const CommunicationStream&) = delete;
  CommunicationStream& operator=(const CommunicationStream&) = delete;
  ~CommunicationStream();

  [[nodiscard]] cudaStream_t get() const noexcept { return stream_; }
  [[nodiscard]] Device device() const noexcept { return {DeviceType::kCuda, device_}; }
  [[nodiscard]] int num_multiprocessors() const noexcept { return num_multiprocessors_; }

  /// Memory of the device, used again in the stream's order. Contents undefined. Throws kCapacity.
  [[nodiscard]] Tensor allocate(DataType dtype, std::span<const std::int64_t> shape);

  /// A flag that no other kernel writes as long as someone has it.
  struct Ticket {
    std::size_t flag = 0;
    device::Completion completion;
    std::uint64_t* order = nullptr;  ///< pinned memory for the words of an order, or what else its kernel reads
    bool outlives_owner = false;     ///< the kernel may still use it when no one has it any more

    /// Of the messages between the host and the ticket's kernel.
    [[nodiscard]] std::uint32_t number() const noexcept { return static_cast<std::uint32_t>(completion.value); }
    /// Word `index` of the kernel's order.
    void give(int index, std::uint32_t value) const noexcept;
  };
  /// Throws kCapacity if all are taken.
  [[nodiscard]] std::shared_ptr<Ticket> take_ticket();
  /// Has the kernel that was given the ticket's completion ended? What it wrote may then be used everywhere.
  [[nodiscard]] static bool is_through(const Ticket& ticket) noexcept;
  /// Or has it ended without having done anything?
  [[nodiscard]] static bool has_ended(const Ticket& ticket) noexcept;
  /// Of orders, for blocks after the first.
  [[nodiscard]] std::uint64_t* passed_on() const noexcept { return passed_on_.get(); }

  /// Waits for the ticket's kernel. Is it through, or was it called off? Throws kSystem if it could not run, kTimeout
  /// if it did not end in time.
  bool await(const Ticket& ticket, const Deadline& deadline) const;
  /// Until what a kernel stores has come; throws as above.
  void await(const std::function<bool()>& has_come, const Deadline& deadline) const;

  /// Launches what `launch` is given a ticket for, and waits until it is through: what the kernel wrote may then be
  /// used everywhere. Throws as above.
  template <typename Launch>
  void run(const Launch& launch, const Deadline& deadline) {
    const std::shared_ptr<const Ticket> ticket = take_ticket();
    launch(*ticket);
    if (!await(*ticket, deadline)) throw_called_off();
  }

 private:
  [[noreturn]] static void throw_called_off();
  void give_back(const Ticket& ticket) noexcept;
  /// Null if none is kept.
  [[nodiscard]] void* take_block(std::size_t bytes);
  void keep_block(void* data, std::size_t bytes) noexcept;

  int device_;
  int num_multiprocessors_ = 0;
  cudaStream_t stream_ = nullptr;
  cudaMemPool_t pool_ = nullptr;
  DeviceArray<std::uint32_t> blocks_ended_;
  PinnedArray<std::uint64_t> flags_;
  std::size_t order_words_;
  PinnedArray<std::uint64_t> orders_;
  DeviceArray<std::uint64_t> passed_on_;
  std::mutex mutex_;
  std::vector<std::size_t> free_flags_;
  /// Small ones that tensors have left, by their size: a call to the driver takes two microseconds.
  std::multimap<std::size_t, void*> blocks_;
  std::vector<Ticket> late_;  ///< that kernels may still use
  std::uint64_t last_value_ = 0;
};

/// A copy in host memory, in the stream's order; waits for it. REQUIRES: contiguous; its device is the current one.
[[nodiscard]] Tensor copy_to_host(const Tensor& tensor, cudaStream_t stream);

}  // namespace crossdock::cuda
