// Slabs of a window: who holds which bytes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <memory_resource>
#include <mutex>
#include <optional>
#include <span>
#include <vector>

#include <crossdock/tensor.hpp>

#include "base/recycling.hpp"
#include "base/shared_memory.hpp"

namespace crossdock::host {

/// Which slabs lie together. A store to a line that another core has read last is slow on some processors
/// (docs/performance.md), so what is staged for others to read, past the caches, keeps to itself.
enum class SlabUse : std::uint8_t {
  kResult,  ///< from the arena's begin on
  kStaged,  ///< from its end on
};

/// First-fit allocator over the arena of one window. Slabs are aligned to and rounded up to kSlabAlignment.
/// A slab keeps the arena, and so the window's memory, alive. Thread-safe.
class Arena : public std::enable_shared_from_this<Arena> {
 public:
  static constexpr std::size_t kSlabAlignment = 128;

  Arena(const std::shared_ptr<SharedMemory>& memory, std::size_t offset, std::size_t bytes);
  /// The same in a device's memory, which `memory` keeps alive; offsets count from `window`.
  Arena(std::shared_ptr<void> memory, std::byte* window, std::size_t bytes, Device device);

  /// Bytes of a slab that holds such a tensor, or the largest std::size_t if they do not fit one.
  [[nodiscard]] static std::size_t slab_bytes(DataType dtype, std::span<const std::int64_t> shape) noexcept;

  /// A tensor that owns a slab, or none if no free piece is large enough. Empty tensors take no room.
  [[nodiscard]] std::optional<Tensor> try_allocate(DataType dtype, std::span<const std::int64_t> shape,
                                                   SlabUse use = SlabUse::kResult);
  /// Offset of memory from the start of the window, if all `bytes` from `data` lie within the arena.
  [[nodiscard]] std::optional<std::uint64_t> offset_of(const void* data, std::size_t bytes) const;

  /// All of it, uint8 of one dimension: what the slabs are pieces of.
  [[nodiscard]] Tensor whole() const;
  [[nodiscard]] std::size_t bytes_total() const noexcept { return bytes_; }
  [[nodiscard]] std::size_t bytes_free() const;
  /// The size of the largest slab that could be had now.
  [[nodiscard]] std::size_t largest_free() const;

 private:
  /// Of the arena, that no slab holds.
  struct Piece {
    std::size_t offset = 0;
    std::size_t bytes = 0;
  };

  [[nodiscard]] std::optional<std::size_t> take(std::size_t bytes, SlabUse use);
  void release(std::size_t offset, std::size_t bytes) noexcept;

  std::shared_ptr<void> memory_;
  std::byte* window_;
  std::size_t offset_;
  std::size_t bytes_;
  Device device_;
  mutable std::mutex mutex_;
  std::shared_ptr<std::pmr::memory_resource> recycler_ = make_recycler();
  std::vector<Piece> free_;  ///< by offset; neighbours are merged
};

}  // namespace crossdock::host
