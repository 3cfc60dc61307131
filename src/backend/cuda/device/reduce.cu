#include <algorithm>

#include "backend/cuda/device/completion.cuh"
#include "backend/cuda/device/loading.hpp"
#include "backend/cuda/device/reduce_rows.cuh"

namespace crossdock::cuda::device {

namespace {

template <typename Rows, typename Type, typename T, bool kFew>
__global__ void __launch_bounds__(kReduceThreads, 1)
    reduce_kernel(const __grid_constant__ ReduceArgs args, const __grid_constant__ NearReduceTable table) {
  grid_reduce<Rows, Type, T, kFew>(args, table);
  block_complete(args.completion);
}

/// Of the rows of all contributors.
int row_access_bytes(const ReduceArgs& args, const ReduceTable& table) {
  int bytes = 16;
  for (int rank = 0; rank < args.num_ranks; ++rank) {
    if ((table.ranks >> static_cast<unsigned>(rank) & 1U) == 0) continue;  // what a masked rank said last
    const Contributor& from = table.contributors[rank];
    bytes = access_bytes({static_cast<std::uint64_t>(bytes), reinterpret_cast<std::uint64_t>(from.x),
                          static_cast<std::uint64_t>(from.stride)});
  }
  return bytes;
}

NearReduceTable near_table_of(const ReduceTable& table, int num_ranks, Contributor* far) {
  NearReduceTable result;
  result.ranks = table.ranks;
  std::copy_n(table.contributors, NearReduceTable::kNear, result.near);
  if (num_ranks > NearReduceTable::kNear) {
    result.far = far;
    std::copy_n(table.contributors + NearReduceTable::kNear, num_ranks - NearReduceTable::kNear, far);
  }
  return result;
}

template <typename Rows>
void launch(const ReduceArgs& args, const NearReduceTable& table, int row_access, int num_sms, cudaStream_t stream) {
  const int bytes = access_bytes_of(args, row_access);
  with_sums(args.element, bytes, has_few<Rows>(args), [&](auto type, auto access, auto few) {
    reduce_kernel<Rows, decltype(type), decltype(access), few.value>
        <<<static_cast<unsigned>(num_sms), kReduceThreads, 0, stream>>>(args, table);
  });
}

template <typename Rows>
cudaError_t load() {
  return for_each_sum([](auto type, auto access, auto few) {
    return load_kernels(reduce_kernel<Rows, decltype(type), decltype(access), few.value>);
  });
}

}  // namespace

cudaError_t load_reduce() {
  const cudaError_t error = load<SummedOfRanks>();
  return error == cudaSuccess ? load<SummedOfSelections>() : error;
}

cudaError_t launch_reduce(const ReduceArgs& args, const ReduceTable& table, Contributor* far, int num_sms,
                          cudaStream_t stream) {
  const NearReduceTable near = near_table_of(table, args.num_ranks, far);
  const int row_access = row_access_bytes(args, table);
  if (args.selections.rows != nullptr) {
    launch<SummedOfSelections>(args, near, row_access, num_sms, stream);
  } else {
    launch<SummedOfRanks>(args, near, row_access, num_sms, stream);
  }
  return cudaGetLastError();
}

}  // namespace crossdock::cuda::device
