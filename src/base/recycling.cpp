#include "base/recycling.hpp"

#include <mutex>

namespace crossdock {

namespace {

/// Not std::pmr::synchronized_pool_resource: in libstdc++ (GCC 12) each thread that used one looks at it when the
/// thread ends, without regard to whether another thread destroys it just then.
class Recycler final : public std::pmr::memory_resource {
 private:
  void* do_allocate(std::size_t bytes, std::size_t alignment) override {
    const std::lock_guard lock(mutex_);
    return pool_.allocate(bytes, alignment);
  }
  void do_deallocate(void* block, std::size_t bytes, std::size_t alignment) override {
    const std::lock_guard lock(mutex_);
    pool_.deallocate(block, bytes, alignment);
  }
  [[nodiscard]] bool do_is_equal(const std::pmr::memory_resource& other) const noexcept override {
    return this == &other;
  }

  static constexpr std::size_t kLargestBlock = std::size_t{1} << 20U;

  std::mutex mutex_;
  std::pmr::unsynchronized_pool_resource pool_{
      std::pmr::pool_options{.max_blocks_per_chunk = 0, .largest_required_pool_block = kLargestBlock}};
};

}  // namespace

std::shared_ptr<std::pmr::memory_resource> make_recycler() { return std::make_shared<Recycler>(); }

}  // namespace crossdock
