#include "backend/cuda/device/low_latency_combine.hpp"

#include <algorithm>

#include "backend/cuda/device/ids.cuh"
#include "backend/cuda/device/loading.hpp"
#include "backend/cuda/device/low_latency_logfmt.cuh"
#include "backend/cuda/device/low_latency_rows.cuh"
#include "backend/cuda/device/party.cuh"
#include "backend/cuda/device/row_access.hpp"
#include "plan/experts.hpp"

namespace crossdock::cuda::device {

namespace {

/// All threads. Are the ids those of the dispatch?
__device__ bool block_has_same_ids(const LowLatencyCombineArgs& args) {
  const plan::ExpertMap experts(args.num_experts, args.party.num_ranks);
  const std::int64_t rows = args.party.num_ranks * args.max_tokens;
  bool are_same = true;
  for (std::int64_t i = threadIdx.x; i < args.num_tokens * args.num_topk; i += block_threads()) {
    const Place place = args.places[i];
    const int expert =
        place.owner < 0 ? place.packed_row : experts.begin(place.owner) + static_cast<int>(place.row / rows);
    are_same &= expert == Place::kUnknown || thread_read_id(args.topk_idx, args.id_bytes, i) == expert;
  }
  return __syncthreads_and(are_same ? 1 : 0) != 0;
}

/// All threads of the block that announces.
__device__ void block_announce_combine(const LowLatencyCombineArgs& args, BlockState& block,
                                       std::uint64_t handle_epoch) {
  Record record{};
  record.offset = args.offset;
  record.num_tokens = args.num_tokens;
  record.hidden = args.hidden;
  record.max_tokens = args.max_tokens;
  record.handle_epoch = handle_epoch;
  record.kind = OperationKind::kCombine;
  record.num_topk = args.num_topk;
  record.num_experts = args.num_experts;
  record.format = args.use_logfmt;
  record.is_packed = args.is_staged;
  if (args.topk_idx != nullptr && !block_has_same_ids(args)) {
    record.obstacle = Obstacle::kOtherIds;
    record.detail[0] = static_cast<std::int64_t>(args.dispatch_epoch);
  }
  block_announce(args.party, block, record);
}

template <typename Rows>
__device__ void block_send(const LowLatencyCombineArgs& args, BlockState& block, int* ends) {
  if (args.is_staged != 0) {
    const auto& staged = *reinterpret_cast<const ParcelHeader*>(args.parcel);
    if (block_parcel_is_free(args.party, block, staged, args.is_captured != 0)) Rows::stage(args, ends);
    if (!block_ends_last(&thread_own(args.party).send_ended, block)) return;
    if (thread_look(&thread_own(args.party).broken) != 0) return;
    if (threadIdx.x == 0) thread_stamp_parcel(block, args.parcel);
  } else if (blockIdx.x != 0) {
    return;  // x is there already
  }
  const std::uint64_t handle_epoch = *args.handle_epoch;  // is on its way meanwhile
  block_await_slot(args.party, block, 0);
  if (!block_fails(args.party, block)) block_announce_combine(args, block, handle_epoch);
}

template <typename Rows>
__device__ void block_receive(const LowLatencyCombineArgs& args, BlockState& block, int rounds) {
  __shared__ Record records[kMaxRanks];
  __shared__ Contributions contributions;
  const bool is_last = blockIdx.x + 1 == gridDim.x;
  if (is_last && args.party.notes_progress && thread_is_in_last_warp()) {
    warp_note_progress(args.party, block);
  }
  if (!block_await_records(args.party, block, records)) return;
  const int rank = static_cast<int>(threadIdx.x);
  if (rank < args.party.num_ranks && !thread_is_masked(block, rank)) {
    contributions.rows[rank] = args.party.windows[rank] + records[rank].offset;
    contributions.are_packed[rank] = records[rank].is_packed != 0;
  }
  __syncthreads();
  Rows::reduce(args, block, contributions, rounds);
}

/// All threads of the last block. The caller may change x after this.
__device__ void block_await_readers(const LowLatencyCombineArgs& args, BlockState& block) {
  const int rank = static_cast<int>(threadIdx.x);
  if (rank < args.party.num_ranks && !thread_is_masked(block, rank)) {
    const Slot slot(args.party, block.epoch);
    const std::uint64_t* const read = slot.read(rank, args.party.rank);
    const std::uint64_t stage = thread_announcing(block.epoch + 1);
    thread_note(block, thread_wait(args.party, block, rank, read, block.epoch, stage), rank);
  }
  static_cast<void>(block_fails(args.party, block));
}

/// Rows says how rows are staged and summed: PlainRows or LogFmtRows.
template <typename Rows>
__global__ void __launch_bounds__(kCombineThreads, 1)
    combine_kernel(const __grid_constant__ LowLatencyCombineArgs args, int rounds) {
  extern __shared__ int table[];
  __shared__ BlockState block;
  const Party& party = args.party;
  block_begin(party, block);
  if (block.is_broken) {
    if (threadIdx.x == 0) thread_report(party, block, FailureKind::kBroken, party.rank);
  } else {
    if (thread_sends(party)) block_send<Rows>(args, block, table);
    __syncthreads();
    if (thread_receives(party) && block.failure == BlockState::kNoFailure) block_receive<Rows>(args, block, rounds);
  }
  if (!block_ends_last(&thread_own(party).receive_ended, block)) return;
  if (thread_receives(party) && !block.is_broken) {
    static_cast<void>(block_has_standing(party, block));
    block_announce_read(party, block);
    if (args.is_shared != 0 && thread_look(&thread_own(party).broken) == 0) {
      block_await_readers(args, block);
    }
  }
  block_finish(party, block, args.completion);
}

/// As many as leave every warp some pieces.
int rounds_for(const LowLatencyCombineArgs& args, int elements, int num_sms) {
  constexpr std::int64_t kMost = 7;
  const std::int64_t accesses = args.hidden / elements / kWarpThreads * args.num_tokens;
  const std::int64_t warps = static_cast<std::int64_t>(num_sms) * kCombineThreads / kWarpThreads;
  return static_cast<int>(std::clamp<std::int64_t>(accesses / (2 * warps), 1, kMost));
}

}  // namespace

cudaError_t load_low_latency_combine() {
  cudaError_t error = cudaSuccess;
  const auto visit = [&](auto kernel) {
    if (error == cudaSuccess) error = load_kernels(kernel);
  };
  for (const int bytes : {16, 8, 4, 2}) {
    with_access(bytes, [&](auto access) {
      using T = decltype(access);
      if constexpr (sizeof(T) >= 2) {
        visit(combine_kernel<PlainRows<T, uint4>>);
        visit(combine_kernel<PlainRows<T, uint2>>);
        visit(combine_kernel<PlainRows<T, unsigned int>>);
        visit(combine_kernel<PlainRows<T, unsigned short>>);
      }
    });
  }
  visit(combine_kernel<LogFmtRows<uint4>>);
  visit(combine_kernel<LogFmtRows<unsigned short>>);
  return error;
}

cudaError_t launch_low_latency_combine(const LowLatencyCombineArgs& args, int num_sms, cudaStream_t stream) {
  const auto row_bytes = 2 * static_cast<std::uint64_t>(args.hidden);
  const int bytes = access_bytes({row_bytes, reinterpret_cast<std::uint64_t>(args.out)});
  const int staged_bytes = access_bytes({row_bytes, reinterpret_cast<std::uint64_t>(args.x)});
  const std::size_t table = args.is_staged != 0 ? sizeof(int) * static_cast<std::size_t>(args.num_local) : 0;
  const bool does_little = args.party.phases == Phases::kSend && args.is_staged == 0;
  const std::int64_t accesses = (args.hidden * 2 + kWarpThreads * 16 - 1) / (kWarpThreads * 16) * args.num_tokens;
  GridShape shape(does_little ? 1 : accesses, num_sms, kCombineThreads);
  if (args.is_staged != 0) {
    shape.blocks = num_sms;
    shape.threads = kCombineThreads;
  }
  cudaError_t error = cudaSuccess;
  const auto run = [&](auto kernel, int elements) {
    constexpr std::size_t kWithoutAsking = 48 * 1024 - 4096;
    if (table > kWithoutAsking) {
      error = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(table));
      if (error != cudaSuccess) return;
    }
    kernel<<<static_cast<unsigned>(shape.blocks), static_cast<unsigned>(shape.threads), table, stream>>>(
        args, rounds_for(args, elements, num_sms));
  };
  if (args.use_logfmt != 0) {
    if (std::min(bytes, staged_bytes) == 16) {
      run(combine_kernel<LogFmtRows<uint4>>, LogFmtLayout::kLane);
    } else {
      run(combine_kernel<LogFmtRows<unsigned short>>, LogFmtLayout::kLane);
    }
    return error == cudaSuccess ? cudaGetLastError() : error;
  }
  with_access(bytes, [&](auto access) {
    using T = decltype(access);
    if constexpr (sizeof(T) >= 2) {
      constexpr int kElements = Sums<Bfloat16, T>::kElements;
      switch (staged_bytes) {
        case 16: run(combine_kernel<PlainRows<T, uint4>>, kElements); return;
        case 8: run(combine_kernel<PlainRows<T, uint2>>, kElements); return;
        case 4: run(combine_kernel<PlainRows<T, unsigned int>>, kElements); return;
        default: run(combine_kernel<PlainRows<T, unsigned short>>, kElements); return;
      }
    }
  });
  return error == cudaSuccess ? cudaGetLastError() : error;
}

}  // namespace crossdock::cuda::device
