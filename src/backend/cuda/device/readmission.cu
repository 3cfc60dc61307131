#include "backend/cuda/device/loading.hpp"
#include "backend/cuda/device/lost_ranks.cuh"
#include "backend/cuda/device/party.cuh"
#include "backend/cuda/device/readmission.hpp"

namespace crossdock::cuda::device {

namespace {

__global__ void __launch_bounds__(kMaxRanks) readmission_kernel(const __grid_constant__ ReadmissionArgs args) {
  const Party& party = args.party;
  OwnState& own = thread_own(party);
  const std::uint64_t left_out = kEpochsLeftOut * static_cast<std::uint64_t>(__popcll(args.admitted));
  const std::uint64_t epoch = args.comes_back ? own.admitted_epoch : own.epoch + left_out;
  const int rank = static_cast<int>(threadIdx.x);
  __syncthreads();
  if (rank < party.num_ranks) {
    // Of the epochs that are left out there is nothing to read.
    if (args.comes_back || left_out > 0) {
      for (std::uint64_t e = epoch < kSlots ? 1 : epoch - kSlots + 1; e <= epoch; ++e) {
        thread_release(Slot(party, e).read(party.rank, rank), e);
      }
    }
    if (thread_takes_part(args.admitted, rank)) {
      thread_admit(thread_state_of(party, rank), epoch);
    }
  }
  if (rank != 0) return;
  own.epoch = epoch;
  own.masked = args.masked;
  own.lost = args.comes_back ? 0 : own.lost & args.masked;
  thread_release(&party.mailbox->lost, own.lost);
  if (args.comes_back || left_out > 0) own.read_epoch = epoch;
  if (args.comes_back) own.broken = 0;
}

}  // namespace

cudaError_t load_readmission() { return load_kernels(readmission_kernel); }

cudaError_t launch_readmission(const ReadmissionArgs& args, cudaStream_t stream) {
  readmission_kernel<<<1, kMaxRanks, 0, stream>>>(args);
  return cudaGetLastError();
}

}  // namespace crossdock::cuda::device
