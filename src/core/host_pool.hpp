// Private memory for results that need not be in a window, used again: a first touch of fresh pages costs more than the
// operation that fills them.
#pragma once

#include <cstddef>
#include <map>
#include <memory>
#include <mutex>
#include <span>

#include <crossdock/tensor.hpp>

namespace crossdock {

/// Keeps freed blocks for later tensors of the same size, at most as many bytes as were ever in use at once.
/// A tensor keeps the pool alive. Thread-safe.
class HostPool : public std::enable_shared_from_this<HostPool> {
 public:
  HostPool() = default;
  HostPool(const HostPool&) = delete;
  HostPool& operator=(const HostPool&) = delete;
  ~HostPool();

  /// Contents undefined; aligned to 128 bytes. Throws kCapacity if the system has no memory.
  [[nodiscard]] Tensor allocate(DataType dtype, std::span<const std::int64_t> shape);

 private:
  [[nodiscard]] void* take(std::size_t bytes);
  void give_back(void* block, std::size_t bytes) noexcept;

  std::mutex mutex_;
  std::multimap<std::size_t, void*> free_;
  std::size_t bytes_free_ = 0;
  std::size_t bytes_used_ = 0;
  std::size_t most_bytes_used_ = 0;
};

}  // namespace crossdock
