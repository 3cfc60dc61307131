// Memory for what every operation needs anew: what was freed is used again, so that after the first operations the
// system is not asked any more.
#pragma once

#include <cstddef>
#include <memory>
#include <memory_resource>
#include <utility>
#include <vector>

namespace crossdock {

/// Thread-safe. Blocks of more than a megabyte are not kept.
[[nodiscard]] std::shared_ptr<std::pmr::memory_resource> make_recycler();

/// Allocates from a recycler and keeps it alive, for objects that may outlive who made them.
template <class T>
class RecyclingAllocator {
 public:
  using value_type = T;  // NOLINT(readability-identifier-naming): the standard's name

  explicit RecyclingAllocator(std::shared_ptr<std::pmr::memory_resource> recycler) noexcept
      : recycler_(std::move(recycler)) {}
  template <class Other>
  RecyclingAllocator(const RecyclingAllocator<Other>& other) noexcept  // NOLINT(google-explicit-constructor)
      : recycler_(other.recycler()) {}

  [[nodiscard]] T* allocate(std::size_t count) {
    return static_cast<T*>(recycler_->allocate(count * sizeof(T), alignof(T)));
  }
  void deallocate(T* data, std::size_t count) noexcept { recycler_->deallocate(data, count * sizeof(T), alignof(T)); }

  [[nodiscard]] const std::shared_ptr<std::pmr::memory_resource>& recycler() const noexcept { return recycler_; }
  template <class Other>
  [[nodiscard]] bool operator==(const RecyclingAllocator<Other>& other) const noexcept {
    return recycler_ == other.recycler();
  }

 private:
  std::shared_ptr<std::pmr::memory_resource> recycler_;
};

template <class T>
using RecyclingVector = std::vector<T, RecyclingAllocator<T>>;

/// As std::make_shared.
template <class T, class... Args>
[[nodiscard]] std::shared_ptr<T> make_recycled(const std::shared_ptr<std::pmr::memory_resource>& recycler,
                                               Args&&... args) {
  return std::allocate_shared<T>(RecyclingAllocator<T>(recycler), std::forward<Args>(args)...);
}

}  // namespace crossdock
