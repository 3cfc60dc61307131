#include "backend/cuda/device/completion.cuh"
#include "backend/cuda/device/copy.hpp"
#include "backend/cuda/device/items.cuh"
#include "backend/cuda/device/loading.hpp"
#include "backend/cuda/device/row_access.cuh"
#include "backend/cuda/device/row_access.hpp"

namespace crossdock::cuda::device {

namespace {

constexpr int kThreads = 1024;
constexpr int kLoads = 4;  ///< of a thread that are in flight at once

template <typename T>
__global__ void __launch_bounds__(kThreads, 1) copy_kernel(const __grid_constant__ CopyArgs args) {
  const std::int64_t count = args.row_bytes / static_cast<std::int64_t>(sizeof(T));
  const int pieces = static_cast<int>((count + kLoads * kWarpThreads - 1) / (kLoads * kWarpThreads));
  const CopyRows rows = args.rows_on_device != nullptr ? *args.rows_on_device : args.rows;
  for (WarpItem item(rows.num_rows - rows.skip_count, pieces); item.is_valid(); item.step()) {
    const std::int64_t row = item.token() < rows.skip_begin ? item.token() : item.token() + rows.skip_count;
    const auto* from = reinterpret_cast<const T*>(args.from + row * args.stride);
    auto* to = reinterpret_cast<T*>(args.to + row * args.row_bytes);
    const LanePiece<kLoads> piece(item.piece(), count);
    T values[kLoads];
    piece.for_each([&](int i, std::int64_t at) { values[i] = thread_load(from + at); });
    piece.for_each([&](int i, std::int64_t at) { thread_store(to + at, values[i]); });
  }
  block_complete(args.completion);
}

}  // namespace

cudaError_t load_copy() {
  return load_each_access([](auto access) { return load_kernels(copy_kernel<decltype(access)>); });
}

cudaError_t launch_copy(const CopyArgs& args, int num_sms, cudaStream_t stream) {
  const int bytes = access_bytes({reinterpret_cast<std::uint64_t>(args.from), reinterpret_cast<std::uint64_t>(args.to),
                                  static_cast<std::uint64_t>(args.stride), static_cast<std::uint64_t>(args.row_bytes)});
  with_access(bytes, [&](auto access) {
    copy_kernel<decltype(access)><<<static_cast<unsigned>(num_sms), kThreads, 0, stream>>>(args);
  });
  return cudaGetLastError();
}

}  // namespace crossdock::cuda::device
