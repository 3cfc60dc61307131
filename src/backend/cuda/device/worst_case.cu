#include "backend/cuda/device/worst_case.hpp"

#include "backend/cuda/device/loading.hpp"
#include "backend/cuda/device/reduce_rows.cuh"
#include "backend/cuda/device/send_rows.cuh"
#include "backend/cuda/device/worst_case_completion.cuh"

namespace crossdock::cuda::device {

namespace {

template <typename T>
__global__ void __launch_bounds__(kSendThreads, 1)
    dispatch_kernel(const __grid_constant__ WorstCaseArgs args, const __grid_constant__ SendArgs rows) {
  __shared__ BlockState block;
  block_begin(args.party, block);
  grid_exchange(args, block);
  grid_send<SentToRanks, T>(rows, *args.send);
  if (!block_ends_last(&thread_own(args.party).receive_ended, block)) return;
  block_complete_worst_case(args, block, [&] { block_fill_unused<SentToRanks>(rows, 0, 0, 1); });
}

template <typename T>
__global__ void __launch_bounds__(kSendThreads, 1)
    expanded_dispatch_kernel(const __grid_constant__ WorstCaseArgs args, const __grid_constant__ SendArgs rows,
                             const __grid_constant__ SelectionArgs selections,
                             const __grid_constant__ PaddingArgs padding) {
  __shared__ BlockState block;
  block_begin(args.party, block);
  grid_exchange(args, block);
  if (args.kind == OperationKind::kWorstCaseDispatch) grid_find_rows(args, selections);
  grid_clear_padding<T>(padding);
  grid_send<SentToSelections, T>(rows, *args.send);
  if (!block_ends_last(&thread_own(args.party).receive_ended, block)) return;
  block_complete_worst_case(args, block, [&] { block_fill_unused<SentToSelections>(rows, 0, 0, 1); });
}

template <typename Rows, typename Type, typename T, bool kFew>
__global__ void __launch_bounds__(kReduceThreads, 1)
    combine_kernel(const __grid_constant__ WorstCaseArgs args, const __grid_constant__ ReduceArgs rows) {
  __shared__ BlockState block;
  block_begin(args.party, block);
  grid_exchange(args, block);
  grid_reduce<Rows, Type, T, kFew>(rows, *args.reduce);
  if (block_ends_last(&thread_own(args.party).receive_ended, block)) block_complete_worst_case(args, block, [] {});
}

template <typename Rows>
cudaError_t load_combine() {
  return for_each_sum([](auto type, auto access, auto few) {
    return load_kernels(combine_kernel<Rows, decltype(type), decltype(access), few.value>);
  });
}

template <typename Rows>
void launch_combine(const WorstCaseArgs& args, const ReduceArgs& rows, int row_access, int num_sms,
                    cudaStream_t stream) {
  const int bytes = access_bytes_of(rows, row_access);
  with_sums(rows.element, bytes, has_few<Rows>(rows), [&](auto type, auto access, auto few) {
    combine_kernel<Rows, decltype(type), decltype(access), few.value>
        <<<static_cast<unsigned>(num_sms), kReduceThreads, 0, stream>>>(args, rows);
  });
}

}  // namespace

cudaError_t load_worst_case() {
  cudaError_t error = load_each_access([](auto access) {
    using T = decltype(access);
    return load_kernels(dispatch_kernel<T>, expanded_dispatch_kernel<T>);
  });
  if (error == cudaSuccess) error = load_combine<SummedOfRanks>();
  return error == cudaSuccess ? load_combine<SummedOfSelections>() : error;
}

cudaError_t launch_worst_case_dispatch(const WorstCaseArgs& args, const SendArgs& rows, int num_sms,
                                       cudaStream_t stream) {
  with_access(access_bytes_of(rows), [&](auto access) {
    dispatch_kernel<decltype(access)><<<static_cast<unsigned>(num_sms), kSendThreads, 0, stream>>>(args, rows);
  });
  return cudaGetLastError();
}

cudaError_t launch_expanded_worst_case_dispatch(const WorstCaseArgs& args, const SendArgs& rows,
                                                const SelectionArgs& selections, const PaddingArgs& padding,
                                                int num_sms, cudaStream_t stream) {
  with_access(access_bytes_of(rows), [&](auto access) {
    expanded_dispatch_kernel<decltype(access)>
        <<<static_cast<unsigned>(num_sms), kSendThreads, 0, stream>>>(args, rows, selections, padding);
  });
  return cudaGetLastError();
}

cudaError_t launch_worst_case_combine(const WorstCaseArgs& args, const ReduceArgs& rows, int row_access, int num_sms,
                                      cudaStream_t stream) {
  if (rows.selections.rows != nullptr) {
    launch_combine<SummedOfSelections>(args, rows, row_access, num_sms, stream);
  } else {
    launch_combine<SummedOfRanks>(args, rows, row_access, num_sms, stream);
  }
  return cudaGetLastError();
}

}  // namespace crossdock::cuda::device
