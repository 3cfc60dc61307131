#include "backend/cuda/items_probe.hpp"

#include "backend/cuda/cuda_check.hpp"
#include "backend/cuda/device/items.cuh"

namespace crossdock::testing {

namespace {

using namespace cuda::device;

/// A piece that `next` disagrees about counts twice.
__global__ void visit_kernel(int num_tokens, int pieces, int* of_piece, int* by_block) {
  for (WarpItem item(num_tokens, pieces); item.is_valid();) {
    const WarpItem next = item.next();
    const std::int64_t at = item.token() * pieces + item.piece();
    item.step();
    const bool agree =
        item.is_valid() == next.is_valid() && item.token() == next.token() && item.piece() == next.piece();
    if (threadIdx.x % kWarpThreads != 0) continue;
    atomicAdd(&of_piece[at], agree ? 1 : 2);
    atomicAdd(&by_block[blockIdx.x], 1);
  }
}

int* make_zeros(std::size_t count) {
  int* data = nullptr;
  check(cudaMalloc(&data, (count + 1) * sizeof(int)));
  check(cudaMemset(data, 0, (count + 1) * sizeof(int)));
  return data;
}

std::vector<int> take(int* data, std::size_t count) {
  std::vector<int> result(count);
  check(cudaMemcpy(result.data(), data, count * sizeof(int), cudaMemcpyDeviceToHost));
  check(cudaFree(data));
  return result;
}

}  // namespace

ItemVisits count_visits(const ItemCase& shape) {
  const auto all = static_cast<std::size_t>(shape.num_tokens) * static_cast<std::size_t>(shape.pieces);
  const auto blocks = static_cast<std::size_t>(shape.blocks);
  int* const of_piece = make_zeros(all);
  int* const by_block = make_zeros(blocks);
  visit_kernel<<<static_cast<unsigned>(shape.blocks), static_cast<unsigned>(shape.threads)>>>(
      shape.num_tokens, shape.pieces, of_piece, by_block);
  check(cudaGetLastError());
  check(cudaDeviceSynchronize());
  return {take(of_piece, all), take(by_block, blocks)};
}

Shape grid_shape_of(std::int64_t pieces, int most_blocks, int most_threads) {
  const GridShape shape(pieces, most_blocks, most_threads);
  return {shape.blocks, shape.threads};
}

}  // namespace crossdock::testing
