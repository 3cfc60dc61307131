// A whole file as read-only memory.
#pragma once

#include <cstddef>
#include <filesystem>
#include <span>
#include <utility>

namespace crossdock::tool {

/// Owner of the mapping. The file must not be shortened while it is mapped (the kernel would end the process with
/// SIGBUS).
class MappedFile {
 public:
  /// Throws kSystem, naming the file, if it cannot be opened or mapped or is not a regular file. An empty file is fine.
  explicit MappedFile(const std::filesystem::path& path);
  MappedFile(MappedFile&& other) noexcept : bytes_(std::exchange(other.bytes_, {})) {}
  MappedFile& operator=(MappedFile&& other) noexcept {
    std::swap(bytes_, other.bytes_);
    return *this;
  }
  ~MappedFile();

  [[nodiscard]] std::span<const std::byte> bytes() const noexcept { return bytes_; }

 private:
  std::span<const std::byte> bytes_;
};

}  // namespace crossdock::tool
