// Anonymous memory that other processes can map by its file descriptor. Nothing of it has a name, so nothing is left
// behind by a crash.
#pragma once

#include <cstddef>
#include <optional>

#include "base/file_descriptor.hpp"

namespace crossdock {

/// What backs a mapping.
enum class PageKind : unsigned char { kNormal, kTransparentHuge, kReservedHuge };

class SharedMemory {
 public:
  /// New memory of at least `bytes`, zeroed, every page populated. With `huge`, tries reserved huge pages, then
  /// transparent ones, and falls back to normal pages. Throws kSystem, or kCapacity if the memory is not there.
  [[nodiscard]] static SharedMemory create(std::size_t bytes, bool huge);
  /// Maps memory that another process created; `bytes` as its size() says. Page tables are populated.
  [[nodiscard]] static SharedMemory attach(FileDescriptor fd, std::size_t bytes);

  SharedMemory(SharedMemory&& other) noexcept;
  SharedMemory& operator=(SharedMemory&& other) noexcept;
  ~SharedMemory();

  [[nodiscard]] std::byte* data() const noexcept { return data_; }
  [[nodiscard]] std::size_t size() const noexcept { return size_; }
  [[nodiscard]] int fd() const noexcept { return fd_.get(); }
  [[nodiscard]] PageKind page_kind() const noexcept { return page_kind_; }

 private:
  SharedMemory(FileDescriptor fd, std::byte* data, std::size_t size, PageKind kind) noexcept;
  /// None, with errno, if the file cannot be had, grown or mapped.
  [[nodiscard]] static std::optional<SharedMemory> try_create(FileDescriptor fd, std::size_t bytes, PageKind kind);

  FileDescriptor fd_;
  std::byte* data_;
  std::size_t size_;
  PageKind page_kind_;
};

}  // namespace crossdock
