#include "base/recycling.hpp"

namespace crossdock {

std::shared_ptr<std::pmr::memory_resource> make_recycler() {
  constexpr std::size_t kLargestBlock = std::size_t{1} << 20U;
  return std::make_shared<std::pmr::synchronized_pool_resource>(
      std::pmr::pool_options{.max_blocks_per_chunk = 0, .largest_required_pool_block = kLargestBlock});
}

}  // namespace crossdock
