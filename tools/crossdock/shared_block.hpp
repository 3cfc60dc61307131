// Memory that ranks share with their launcher: made before the ranks are, inherited by fork.
#pragma once

#include <sys/mman.h>

#include <cstddef>
#include <cstdint>
#include <new>
#include <span>
#include <type_traits>

#include "base/error.hpp"

namespace crossdock::tool {

/// `count` zeroed objects that processes made by fork see at the same address. Who writes what when is the user's
/// matter.
template <typename T>
class SharedBlock {
  static_assert(std::is_trivially_destructible_v<T>);

 public:
  explicit SharedBlock(std::size_t count) : bytes_(count * sizeof(T)) {
    if (count == 0 || count > SIZE_MAX / sizeof(T)) {
      throw make_error(ErrorCode::kCapacity, "cannot share {} objects between ranks", count);
    }
    void* memory = ::mmap(nullptr, bytes_, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) throw system_error("cannot share memory between ranks");
    values_ = {static_cast<T*>(memory), count};
    for (T& value : values_) new (&value) T{};
  }
  SharedBlock(const SharedBlock&) = delete;
  SharedBlock& operator=(const SharedBlock&) = delete;
  ~SharedBlock() { ::munmap(values_.data(), bytes_); }

  [[nodiscard]] T& operator[](std::size_t index) const noexcept { return values_[index]; }
  [[nodiscard]] std::size_t size() const noexcept { return values_.size(); }
  [[nodiscard]] std::span<T> values() const noexcept { return values_; }

 private:
  std::size_t bytes_;
  std::span<T> values_;
};

}  // namespace crossdock::tool
