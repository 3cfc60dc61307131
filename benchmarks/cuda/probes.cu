#include "cuda/probes.hpp"

#include "backend/cuda/device/completion.cuh"
#include "backend/cuda/device/order.cuh"
#include "backend/cuda/device/row_access.cuh"

namespace crossdock::limits {

namespace {

using namespace cuda::device;

constexpr int kThreads = 1024;
constexpr int kLoads = 4;  ///< of a thread that are in flight at once
constexpr int kPuts = 8;
constexpr int kMostStages = 64;

struct ManyArguments {
  std::uint64_t words[416];
};

__global__ void __launch_bounds__(kThreads, 1) empty_kernel(const __grid_constant__ Completion completion) {
  block_complete(completion);
}

__global__ void __launch_bounds__(kThreads, 1)
    many_arguments_kernel(const __grid_constant__ Completion completion, const __grid_constant__ ManyArguments words) {
  if (words.words[threadIdx.x % 416] != 0) return;  // there are none
  block_complete(completion);
}

__global__ void __launch_bounds__(kThreads, 1)
    waiting_kernel(const __grid_constant__ Order order, const __grid_constant__ Completion completion) {
  __shared__ std::uint32_t table[kOrderWords];
  const bool is_ordered = block_read_order(order, kOrderWords, table);
  block_complete(is_ordered ? completion : completion.called_off());
}

__global__ void __launch_bounds__(kThreads, 1) plain_copy_kernel(const __grid_constant__ CopyProbe probe) {
  const std::int64_t count = probe.bytes / static_cast<std::int64_t>(sizeof(uint4));
  const auto* from = reinterpret_cast<const uint4*>(probe.from);
  auto* to = reinterpret_cast<uint4*>(probe.to);
  const int warps = static_cast<int>(gridDim.x) * (kThreads / kWarpThreads);
  const int pieces = static_cast<int>((count + kLoads * kWarpThreads - 1) / (kLoads * kWarpThreads));
  for (int i = static_cast<int>(blockIdx.x * (kThreads / kWarpThreads) + threadIdx.x / kWarpThreads); i < pieces;
       i += warps) {
    const LanePiece<kLoads> piece(i, count);
    uint4 values[kLoads];
    piece.for_each([&](int load, std::int64_t at) { values[load] = thread_load(from + at); });
    for (int copy = 0; copy < probe.num_copies; ++copy) {
      piece.for_each([&](int load, std::int64_t at) { thread_store(to + copy * count + at, values[load]); });
    }
  }
}

__global__ void __launch_bounds__(kWarpThreads, 1) bulk_copy_kernel(const __grid_constant__ CopyProbe probe) {
#ifdef CROSSDOCK_HAS_BULK_COPIES
  extern __shared__ uint4 stages[];
  __shared__ std::uint64_t fetched[kMostStages];
  if (threadIdx.x != 0) return;
  const int num_stages = probe.num_fetches + kPuts;
  for (int stage = 0; stage < num_stages; ++stage) thread_begin_fetches(&fetched[stage]);
  thread_fence_fetches();
  const auto pieces = static_cast<int>((probe.bytes + probe.piece_bytes - 1) / probe.piece_bytes);
  const auto step = static_cast<int>(gridDim.x);
  const auto begin_of = [&](int piece) { return std::int64_t{piece} * probe.piece_bytes; };
  const auto bytes_of = [&](int piece) {
    return static_cast<unsigned>(min(probe.bytes - begin_of(piece), std::int64_t{probe.piece_bytes}));
  };
  const auto stage_at = [&](int stage) { return reinterpret_cast<std::byte*>(stages) + stage * probe.piece_bytes; };
  auto next = static_cast<int>(blockIdx.x);
  const auto fetch = [&](int stage) {
    if (next < pieces) thread_fetch(stage_at(stage), probe.from + begin_of(next), bytes_of(next), &fetched[stage]);
    next += step;
  };
  for (int stage = 0; stage < probe.num_fetches; ++stage) fetch(stage);
  int stage = 0;
  bool is_odd = false;
  for (auto piece = static_cast<int>(blockIdx.x); piece < pieces; piece += step) {
    thread_await_fetch(&fetched[stage], is_odd);
    for (int copy = 0; copy < probe.num_copies; ++copy) {
      thread_put(probe.to + copy * probe.bytes + begin_of(piece), stage_at(stage), bytes_of(piece));
    }
    thread_await_reads_of_puts<kPuts>();
    fetch((stage + probe.num_fetches) % num_stages);
    if (++stage < num_stages) continue;
    stage = 0;
    is_odd = !is_odd;
  }
  thread_await_puts();
#endif
}

}  // namespace

cudaError_t launch_empty(bool has_many, int num_sms, const Completion& completion, cudaStream_t stream) {
  const auto blocks = static_cast<unsigned>(num_sms);
  if (has_many) {
    many_arguments_kernel<<<blocks, kThreads, 0, stream>>>(completion, ManyArguments{});
  } else {
    empty_kernel<<<blocks, kThreads, 0, stream>>>(completion);
  }
  return cudaGetLastError();
}

cudaError_t launch_waiting(const Order& order, int num_sms, const Completion& completion, cudaStream_t stream) {
  waiting_kernel<<<static_cast<unsigned>(num_sms), kThreads, 0, stream>>>(order, completion);
  return cudaGetLastError();
}

cudaError_t launch_plain_copy(const CopyProbe& probe, int num_sms, cudaStream_t stream) {
  plain_copy_kernel<<<static_cast<unsigned>(num_sms), kThreads, 0, stream>>>(probe);
  return cudaGetLastError();
}

cudaError_t launch_bulk_copy(const CopyProbe& probe, int num_sms, cudaStream_t stream) {
  const int shared = (probe.num_fetches + kPuts) * probe.piece_bytes;
  const cudaError_t error = cudaFuncSetAttribute(bulk_copy_kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, shared);
  if (error != cudaSuccess) return error;
  const auto blocks = static_cast<unsigned>(num_sms);
  bulk_copy_kernel<<<blocks, kWarpThreads, static_cast<std::size_t>(shared), stream>>>(probe);
  return cudaGetLastError();
}

}  // namespace crossdock::limits
