#include "backend/cuda/device/selections.hpp"

#include "backend/cuda/device/loading.hpp"
#include "backend/cuda/device/row_access.hpp"
#include "backend/cuda/device/selection_rows.cuh"

namespace crossdock::cuda::device {

namespace {

constexpr int kThreads = 256;
constexpr int kPaddingThreads = 1024;
constexpr int kMaxBlocks = 128;
constexpr int kBlockSelections = 256;  ///< at least, if there are more blocks than one

__global__ void __launch_bounds__(kThreads) count_kernel(const __grid_constant__ SelectionArgs args) {
  block_count_selections(args);
}

__global__ void __launch_bounds__(kThreads) rows_kernel(const __grid_constant__ SelectionArgs args) {
  block_find_rows(args, args.ranks);
}

template <typename T>
__global__ void __launch_bounds__(kPaddingThreads, 1) padding_kernel(const __grid_constant__ PaddingArgs args) {
  grid_clear_padding<T>(args);
}

}  // namespace

int selection_blocks(std::int64_t num_selections) {
  const std::int64_t blocks = (num_selections + kBlockSelections - 1) / kBlockSelections;
  return blocks < 1 ? 1 : blocks > kMaxBlocks ? kMaxBlocks : static_cast<int>(blocks);
}

cudaError_t launch_selections(const SelectionArgs& args, cudaStream_t stream) {
  const auto blocks = static_cast<unsigned>(selection_blocks(args.num_tokens * args.table.num_topk));
  count_kernel<<<blocks, kThreads, 0, stream>>>(args);
  rows_kernel<<<blocks, kThreads, 0, stream>>>(args);
  return cudaGetLastError();
}

cudaError_t launch_selection_counts(const SelectionArgs& args, int num_blocks, cudaStream_t stream) {
  count_kernel<<<static_cast<unsigned>(num_blocks), kThreads, 0, stream>>>(args);
  return cudaGetLastError();
}

cudaError_t launch_padding(const PaddingArgs& args, int num_sms, cudaStream_t stream) {
  const int bytes = access_bytes({reinterpret_cast<std::uint64_t>(args.x), static_cast<std::uint64_t>(args.row_bytes)});
  with_access(bytes, [&](auto access) {
    padding_kernel<decltype(access)><<<static_cast<unsigned>(num_sms), kPaddingThreads, 0, stream>>>(args);
  });
  return cudaGetLastError();
}

cudaError_t load_selections() {
  const cudaError_t error = load_kernels(count_kernel, rows_kernel);
  if (error != cudaSuccess) return error;
  return load_each_access([](auto access) { return load_kernels(padding_kernel<decltype(access)>); });
}

}  // namespace crossdock::cuda::device
