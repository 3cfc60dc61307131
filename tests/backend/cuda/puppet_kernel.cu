#include "backend/cuda/cuda_check.hpp"
#include "backend/cuda/device/worst_case_exchange.cuh"
#include "backend/cuda/puppet_kernel.hpp"

namespace crossdock::testing {

namespace {

using namespace cuda::device;

constexpr int kThreads = 256;

__device__ void block_read_placements(const PuppetArgs& args, BlockState& block) {
  const Party& party = args.operation.party;
  __shared__ Record records[kMaxRanks];
  static_cast<void>(block_await_records(party, block, records));
  const int rank = static_cast<int>(threadIdx.x);
  if (rank < party.num_ranks) args.others[rank] = Slot(party, block.epoch).placement(rank, party.rank).x;
}

__device__ void block_store_rubbish(const PuppetArgs& args) {
  const Party& party = args.operation.party;
  for (int rank = 0; rank < party.num_ranks; ++rank) {
    if (rank == party.rank) continue;
    std::byte* const rows = party.windows[rank] + args.others[rank];
    for (std::int64_t i = threadIdx.x; i < args.bytes; i += kThreads) rows[i] = std::byte{0xEE};
  }
  __threadfence_system();
}

__device__ void block_say_sent(const Party& party, BlockState& block) {
  const int rank = static_cast<int>(threadIdx.x);
  if (!block_claims(party, block, thread_having_sent(block.epoch))) return;
  if (rank < party.num_ranks) thread_release(Slot(party, block.epoch).sent(party.rank, rank), block.epoch);
}

__global__ void puppet_kernel(const __grid_constant__ PuppetArgs args, PuppetStep step) {
  __shared__ BlockState block;
  const Party& party = args.operation.party;
  block_begin(party, block);
  switch (step) {
    case PuppetStep::kAnnounce:
      block_await_slot(party, block, 0);
      block_write_counts(args.operation, block);
      block_announce_exchange(args.operation, block);
      break;
    case PuppetStep::kAwaitOthers: block_read_placements(args, block); break;
    case PuppetStep::kStore: block_store_rubbish(args); break;
    case PuppetStep::kSend: block_say_sent(party, block); break;
    case PuppetStep::kStop:
      block_announce_read(party, block);
      __syncthreads();
      if (threadIdx.x == 0) thread_own(party).epoch = block.epoch;
      break;
    case PuppetStep::kGiveUp:
      if (threadIdx.x == 0) thread_gives_up(party, args.other, thread_having_sent(block.epoch));
      break;
    case PuppetStep::kAwaitRank:
      if (threadIdx.x != 0) break;
      while (thread_acquire(&Slot(party, block.epoch).record(args.other, party.rank).epoch) < block.epoch) {
      }
      break;
  }
}

}  // namespace

void run_puppet_step(const PuppetArgs& args, PuppetStep step, cudaStream_t stream) {
  puppet_kernel<<<1, kThreads, 0, stream>>>(args, step);
  check(cudaGetLastError());
  check(cudaStreamSynchronize(stream));
}

}  // namespace crossdock::testing
