#include "kernels.hpp"

#include <array>
#include <cstring>

#include "common/reduce.hpp"
#include "common/spread.hpp"

namespace copy_limit {
namespace {

using benchmarks::Prefetch;
using benchmarks::Store;

constexpr std::size_t kMostRegions = 64;

void memcpy_whole(const Work& work) { std::memcpy(work.several[0], work.single, work.rows * work.row_bytes); }

void memcpy_rows(const Work& work) {
  for (std::size_t row = 0; row < work.rows; ++row) {
    std::memcpy(work.several[0] + row * work.row_bytes, work.single + row * work.row_bytes, work.row_bytes);
  }
}

template <Store kStore, int kLines, Prefetch kPrefetch = Prefetch::kNone, std::size_t kAhead = 0>
void spread(const Work& work) {
  std::array<std::byte*, kMostRegions> destinations;
  for (std::size_t row = 0; row < work.rows; ++row) {
    for (std::size_t d = 0; d < work.count; ++d) destinations[d] = work.several[d] + row * work.row_bytes;
    benchmarks::spread_row<kStore, kLines, kPrefetch>({.source = work.single + row * work.row_bytes,
                                                       .destinations = destinations.data(),
                                                       .count = work.count,
                                                       .bytes = work.row_bytes,
                                                       .prefetch_bytes = kAhead});
  }
  benchmarks::streaming_fence();
}

template <Store kStore, int kLines, Prefetch kPrefetch = Prefetch::kNone, std::size_t kAhead = 0>
void reduce(const Work& work) {
  std::array<const std::byte*, kMostRegions> sources;
  for (std::size_t row = 0; row < work.rows; ++row) {
    for (std::size_t s = 0; s < work.count; ++s) sources[s] = work.several[s] + row * work.row_bytes;
    benchmarks::reduce_row<kStore, kLines, kPrefetch>({.sources = sources.data(),
                                                       .count = work.count,
                                                       .result = work.single + row * work.row_bytes,
                                                       .bytes = work.row_bytes,
                                                       .prefetch_bytes = kAhead});
  }
  benchmarks::streaming_fence();
}

constexpr Kernel kKernels[] = {
    {Direction::kMemcpy, "memcpy of everything", memcpy_whole},
    {Direction::kMemcpy, "memcpy of each row", memcpy_rows},
    {Direction::kSpread, "ordinary stores, 4 lines", spread<Store::kRegular, 4>},
    {Direction::kSpread, "streaming, 1 line", spread<Store::kStreaming, 1>},
    {Direction::kSpread, "streaming, 2 lines", spread<Store::kStreaming, 2>},
    {Direction::kSpread, "streaming, 4 lines", spread<Store::kStreaming, 4>},
    {Direction::kSpread, "streaming, 2 lines, L1 +512", spread<Store::kStreaming, 2, Prefetch::kLevel1, 512>},
    {Direction::kSpread, "streaming, 2 lines, L2 +1024", spread<Store::kStreaming, 2, Prefetch::kLevel2, 1024>},
    {Direction::kSpread, "streaming, 2 lines, L2 +4096", spread<Store::kStreaming, 2, Prefetch::kLevel2, 4096>},
    {Direction::kReduce, "ordinary store, 4 lines", reduce<Store::kRegular, 4>},
    {Direction::kReduce, "streaming, 2 lines", reduce<Store::kStreaming, 2>},
    {Direction::kReduce, "streaming, 4 lines", reduce<Store::kStreaming, 4>},
    {Direction::kReduce, "streaming, 4 lines, L1 +256", reduce<Store::kStreaming, 4, Prefetch::kLevel1, 256>},
    {Direction::kReduce, "streaming, 4 lines, L2 +1024", reduce<Store::kStreaming, 4, Prefetch::kLevel2, 1024>},
    {Direction::kReduce, "streaming, 2 lines, L1 +4096", reduce<Store::kStreaming, 2, Prefetch::kLevel1, 4096>},
};

}  // namespace

std::span<const Kernel> kernels() { return kKernels; }

}  // namespace copy_limit
