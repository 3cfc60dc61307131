#include "backend/cuda/device/completion.cuh"
#include "backend/cuda/device/loading.hpp"
#include "backend/cuda/device/order.cuh"
#include "backend/cuda/device/send_rows.cuh"

namespace crossdock::cuda::device {

namespace {

template <typename Rows, typename T>
__global__ void __launch_bounds__(kSendThreads, 1)
    send_kernel(const __grid_constant__ SendArgs args, const __grid_constant__ Order order) {
  __shared__ SendTable table;
  const bool is_ordered = block_read_order(order, SendTable::num_words(args.num_ranks), table);
  if (is_ordered) grid_send<Rows, T>(args, table);
  block_complete(is_ordered ? args.completion : args.completion.called_off());
}

}  // namespace

cudaError_t load_send() {
  return load_each_access([](auto access) {
    using T = decltype(access);
    return load_kernels(send_kernel<SentToRanks, T>, send_kernel<SentToSelections, T>);
  });
}

cudaError_t launch_send(const SendArgs& args, const Order& order, int num_sms, cudaStream_t stream) {
  with_access(access_bytes_of(args), [&](auto access) {
    const auto blocks = static_cast<unsigned>(num_sms);
    if (args.selections.rows != nullptr) {
      send_kernel<SentToSelections, decltype(access)><<<blocks, kSendThreads, 0, stream>>>(args, order);
    } else {
      send_kernel<SentToRanks, decltype(access)><<<blocks, kSendThreads, 0, stream>>>(args, order);
    }
  });
  return cudaGetLastError();
}

}  // namespace crossdock::cuda::device
