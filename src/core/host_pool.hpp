// Private memory for results that need not be in a window, used again: a first touch of fresh pages costs more than the
// operation that fills them.
#pragma once

#include <cstddef>
#include <map>
#include <memory>
#include <memory_resource>
#include <mutex>
#include <span>

#include <crossdock/tensor.hpp>

#include "base/recycling.hpp"

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
  std::shared_ptr<std::pmr::memory_resource> recycler_ = make_recycler();
  std::pmr::multimap<std::size_t, void*> free_{recycler_.get()};
  std::size_t bytes_free_ = 0;
  std::size_t bytes_used_ = 0;
  std::size_t most_bytes_used_ = 0;
};

}  // namespace crossdock
