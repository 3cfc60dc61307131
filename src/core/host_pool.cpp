#include "core/host_pool.hpp"

#include <sys/mman.h>

#include <algorithm>
#include <cstdlib>

#include "base/error.hpp"

namespace crossdock {

namespace {

constexpr std::size_t kAlignment = 128;
constexpr std::size_t kHugePageBytes = std::size_t{2} << 20U;

/// Large blocks ask for transparent huge pages: fewer first touches, and the kernel allows them to private memory by
/// default.
void* allocate_block(std::size_t bytes) {
  const bool is_large = bytes >= kHugePageBytes;
  const std::size_t alignment = is_large ? kHugePageBytes : kAlignment;
  const std::size_t size = (bytes + alignment - 1) / alignment * alignment;
  void* block = std::aligned_alloc(alignment, size);
  if (block == nullptr)
    throw make_error(ErrorCode::kCapacity, "the system has no memory for a result of {} bytes", bytes);
  if (is_large) ::madvise(block, size, MADV_HUGEPAGE);
  return block;
}

}  // namespace

HostPool::~HostPool() {
  for (const auto& [bytes, block] : free_) std::free(block);  // NOLINT(cppcoreguidelines-no-malloc)
}

Tensor HostPool::allocate(DataType dtype, std::span<const std::int64_t> shape) {
  std::size_t bytes = size_of(dtype);
  for (const std::int64_t extent : shape) bytes *= static_cast<std::size_t>(extent);
  bytes = std::max((bytes + kAlignment - 1) / kAlignment * kAlignment, kAlignment);
  void* block = take(bytes);
  std::shared_ptr<void> owner(
      block, [pool = shared_from_this(), bytes](void* b) noexcept { pool->give_back(b, bytes); },
      RecyclingAllocator<std::byte>(recycler_));
  return Tensor::own(std::move(owner), block, dtype, shape);
}

void* HostPool::take(std::size_t bytes) {
  const std::lock_guard lock(mutex_);
  void* block = nullptr;
  if (const auto found = free_.find(bytes); found != free_.end()) {
    block = found->second;
    free_.erase(found);
    bytes_free_ -= bytes;
  } else {
    block = allocate_block(bytes);
  }
  bytes_used_ += bytes;
  most_bytes_used_ = std::max(most_bytes_used_, bytes_used_);
  return block;
}

void HostPool::give_back(void* block, std::size_t bytes) noexcept {
  {
    const std::lock_guard lock(mutex_);
    bytes_used_ -= bytes;
    if (bytes_free_ + bytes <= most_bytes_used_) {
      free_.emplace(bytes, block);
      bytes_free_ += bytes;
      return;
    }
  }
  std::free(block);  // NOLINT(cppcoreguidelines-no-malloc)
}

}  // namespace crossdock
