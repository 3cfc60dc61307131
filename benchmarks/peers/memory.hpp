// Buffers that are paid for before anything is timed.
#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>

namespace peers {

/// What malloc would give, or huge pages where the kernel grants them: MPI copies up to twice as fast from those.
enum class Pages { kSmall, kHuge };

/// Private memory at a huge-page boundary, touched once; a spare page at the end lets prefetches run past the last row.
class Memory {
 public:
  Memory() = default;
  /// Throws std::bad_alloc.
  Memory(std::size_t bytes, Pages pages);
  Memory(Memory&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)), mapped_(std::exchange(other.mapped_, 0)) {}
  Memory& operator=(Memory&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(mapped_, other.mapped_);
    return *this;
  }
  ~Memory();

  [[nodiscard]] std::byte* data() const noexcept { return data_; }

 private:
  std::byte* data_ = nullptr;
  std::size_t mapped_ = 0;
};

}  // namespace peers
