#include "backend/cuda/device/notices.hpp"

#include "backend/cuda/device/loading.hpp"
#include "backend/cuda/device/party.cuh"

namespace crossdock::cuda::device {

namespace {

__global__ void refusal_kernel(const __grid_constant__ RefusalArgs args) {
  __shared__ BlockState block;
  block_begin(args.party, block);
  block_await_slot(args.party, block, 0);
  if (!block.is_broken && !block_fails(args.party, block)) {
    const Slot slot(args.party, block.epoch);
    for (std::size_t i = threadIdx.x; i < ControlLayout::kReasonBytes; i += blockDim.x) {
      slot.reason(args.party.rank)[i] = args.reason[i];
    }
    __threadfence_system();
    __syncthreads();
    Record record{};
    record.kind = OperationKind::kRefused;
    record.obstacle = Obstacle::kRefused;
    record.detail[0] = args.code;
    block_announce(args.party, block, record);
    block_announce_read(args.party, block);
  }
  block_finish(args.party, block, args.completion);
}

__global__ void abandon_kernel(const __grid_constant__ Party party) {
  __shared__ BlockState block;
  block_begin(party, block);
  if (!block.is_broken) block_announce_read(party, block);
}

__global__ void progress_kernel(const __grid_constant__ Party party, const __grid_constant__ Completion completion) {
  __shared__ BlockState block;
  block_begin(party, block);
  if (threadIdx.x < kWarpThreads) warp_note_progress(party, block);
  __syncthreads();
  if (threadIdx.x == 0) thread_complete(completion);
}

}  // namespace

cudaError_t load_notices() { return load_kernels(refusal_kernel, abandon_kernel, progress_kernel); }

cudaError_t launch_refusal(const RefusalArgs& args, cudaStream_t stream) {
  refusal_kernel<<<1, kMaxRanks, 0, stream>>>(args);
  return cudaGetLastError();
}

cudaError_t launch_abandon(const Party& party, cudaStream_t stream) {
  abandon_kernel<<<1, kMaxRanks, 0, stream>>>(party);
  return cudaGetLastError();
}

cudaError_t launch_progress(const Party& party, const Completion& completion, cudaStream_t stream) {
  progress_kernel<<<1, kMaxRanks, 0, stream>>>(party, completion);
  return cudaGetLastError();
}

}  // namespace crossdock::cuda::device
