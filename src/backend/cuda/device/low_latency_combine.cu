#include "backend/cuda/device/low_latency_combine.hpp"

#include <algorithm>

#include "backend/cuda/device/items.cuh"
#include "backend/cuda/device/low_latency_party.cuh"
#include "backend/cuda/device/row_access.cuh"
#include "backend/cuda/device/row_access.hpp"
#include "backend/cuda/device/sums.cuh"

namespace crossdock::cuda::device {

namespace {

// Addresses and rows that are on their way are kept in registers, which is why a block has no more threads.
constexpr int kThreads = 768;
constexpr int kLoads = 8;  ///< rows that a thread reads at once
constexpr int kStageLoads = 4;
constexpr unsigned kAllLanes = 0xFFFFFFFFU;

/// All threads. Copies the used rows of x, expert after expert. `ends` has room for L ints.
template <typename T>
__device__ void grid_stage(const LowLatencyCombineArgs& args, int* ends) {
  if (threadIdx.x == 0) {
    int end = 0;
    for (int expert = 0; expert < args.num_local; ++expert) ends[expert] = end += args.count[expert];
  }
  __syncthreads();
  const std::int64_t row_bytes = 2 * args.hidden;
  const std::int64_t count = row_bytes / static_cast<std::int64_t>(sizeof(T));
  const int pieces = static_cast<int>((count + kStageLoads * kWarpThreads - 1) / (kStageLoads * kWarpThreads));
  const int rows = args.num_local > 0 ? ends[args.num_local - 1] : 0;
  const std::int64_t places = args.party.num_ranks * args.max_tokens;
  for (WarpItem item(rows, pieces, kThreads); item.is_valid(); item.step()) {
    const auto packed = static_cast<int>(item.token());
    int expert = 0;
    for (int above = args.num_local - 1; expert < above;) {
      const int middle = (expert + above) / 2;
      if (packed < ends[middle]) {
        above = middle;
      } else {
        expert = middle + 1;
      }
    }
    const int row = packed - (expert > 0 ? ends[expert - 1] : 0);
    const auto* from = reinterpret_cast<const T*>(args.x + (expert * places + row) * row_bytes);
    auto* to = reinterpret_cast<T*>(args.staged + packed * row_bytes);
    const std::int64_t begin =
        static_cast<std::int64_t>(item.piece()) * (kStageLoads * kWarpThreads) + threadIdx.x % kWarpThreads;
    T values[kStageLoads];
#pragma unroll
    for (int i = 0; i < kStageLoads; ++i) {
      if (begin + i * kWarpThreads < count) values[i] = thread_load(from + begin + i * kWarpThreads);
    }
#pragma unroll
    for (int i = 0; i < kStageLoads; ++i) {
      if (begin + i * kWarpThreads < count) to[begin + i * kWarpThreads] = values[i];
    }
  }
}

__device__ void block_announce_combine(const LowLatencyCombineArgs& args, const BlockState& block) {
  Record record{};
  record.offset = args.offset;
  record.num_tokens = args.num_tokens;
  record.hidden = args.hidden;
  record.max_tokens = args.max_tokens;
  record.handle_epoch = *args.handle_epoch;
  record.kind = LowLatencyKind::kCombine;
  record.num_topk = args.num_topk;
  record.num_experts = args.num_experts;
  record.is_packed = args.is_staged;
  block_announce(args.party, block, record);
}

template <typename T>
__device__ void block_send(const LowLatencyCombineArgs& args, BlockState& block, int* ends) {
  if (args.is_staged != 0) {
    grid_stage<T>(args, ends);
    if (!block_ends_last(&thread_own(args.party).send_ended, block)) return;
  } else if (blockIdx.x != 0) {
    return;  // x is there already
  }
  block_await_slot(args.party, block, 0);
  if (!block_fails(args.party, block)) block_announce_combine(args, block);
}

/// Where the ranks' rows lie. In shared memory.
struct Contributions {
  const std::byte* rows[kMaxRanks];
  bool are_packed[kMaxRanks];
};

/// The row of one selection, null if it has none, and its weight.
struct LaneRow {
  const std::byte* row;
  float weight;
};

__device__ LaneRow thread_find_row(const LowLatencyCombineArgs& args, const BlockState& block,
                                   const Contributions& contributions, std::int64_t token, int column) {
  if (column >= args.num_topk) return {nullptr, 0.0F};
  const std::int64_t index = token * args.num_topk + column;
  const Place place = args.places[index];
  const float weight = args.weights[index];
  if (place.owner < 0 || thread_is_masked(block, place.owner)) return {nullptr, 0.0F};
  const std::int64_t row = contributions.are_packed[place.owner] ? place.packed_row : place.row;
  return {contributions.rows[place.owner] + row * 2 * args.hidden, weight};
}

/// One access of each lane: adds what the selections that the lanes hold have there, in their order.
template <typename T>
__device__ void warp_add(const LaneRow& mine, int index, bool is_inside, Sums<Bfloat16, T>& sums) {
  unsigned left = __ballot_sync(kAllLanes, mine.row != nullptr);
  while (left != 0) {
    T values[kLoads];
    float weights[kLoads];
    int count = 0;
#pragma unroll
    for (int i = 0; i < kLoads; ++i) {
      if (left != 0) {
        const int lane = __ffs(static_cast<int>(left)) - 1;
        left &= left - 1;
        const auto row = __shfl_sync(kAllLanes, reinterpret_cast<unsigned long long>(mine.row), lane);
        weights[i] = __shfl_sync(kAllLanes, mine.weight, lane);
        if (is_inside) values[i] = thread_load(reinterpret_cast<const T*>(row) + index);
        ++count;
      }
    }
#pragma unroll
    for (int i = 0; i < kLoads; ++i) {
      if (i < count && is_inside) sums.add_weighted(values[i], weights[i]);
    }
  }
}

/// A warp's piece of work is `rounds` accesses of each lane to a token's row.
template <typename T>
__device__ void grid_reduce(const LowLatencyCombineArgs& args, const BlockState& block,
                            const Contributions& contributions, int rounds) {
  const int count = static_cast<int>(args.hidden / Sums<Bfloat16, T>::kElements);
  const int pieces = (count + rounds * kWarpThreads - 1) / (rounds * kWarpThreads);
  const int lane = static_cast<int>(threadIdx.x % kWarpThreads);
  WarpItem item(args.num_tokens, pieces, kThreads);
  LaneRow mine{nullptr, 0.0F};
  if (item.is_valid()) mine = thread_find_row(args, block, contributions, item.token(), lane);
  for (; item.is_valid(); item.step()) {
    const LaneRow now = mine;
    if (const WarpItem next = item.next(); next.is_valid()) {
      mine = thread_find_row(args, block, contributions, next.token(), lane);
    }
    auto* out = reinterpret_cast<T*>(args.out) + item.token() * count;
    int index = item.piece() * rounds * kWarpThreads + lane;
#pragma unroll 1
    for (int round = 0; round < rounds; ++round, index += kWarpThreads) {
      const bool is_inside = index < count;
      Sums<Bfloat16, T> sums;
      warp_add(now, index, is_inside, sums);
      for (int column = kWarpThreads; column < args.num_topk; column += kWarpThreads) {
        warp_add(thread_find_row(args, block, contributions, item.token(), column + lane), index, is_inside, sums);
      }
      if (is_inside) thread_store(out + index, sums.rounded());
    }
  }
}

template <typename T>
__device__ void block_receive(const LowLatencyCombineArgs& args, BlockState& block, int rounds) {
  __shared__ Record records[kMaxRanks];
  __shared__ Contributions contributions;
  const bool is_last = blockIdx.x + 1 == gridDim.x;
  if (is_last && args.party.notes_progress && threadIdx.x / kWarpThreads == kThreads / kWarpThreads - 1) {
    warp_note_progress(args.party, block);
  }
  if (!block_await_records(args.party, block, records)) return;
  const int rank = static_cast<int>(threadIdx.x);
  if (rank < args.party.num_ranks && !thread_is_masked(block, rank)) {
    contributions.rows[rank] = args.party.windows[rank] + records[rank].offset;
    contributions.are_packed[rank] = records[rank].is_packed != 0;
  }
  __syncthreads();
  grid_reduce<T>(args, block, contributions, rounds);
}

/// All threads of the last block. The caller may change x after this.
__device__ void block_await_readers(const LowLatencyCombineArgs& args, BlockState& block) {
  const int rank = static_cast<int>(threadIdx.x);
  if (rank < args.party.num_ranks && !thread_is_masked(block, rank)) {
    const Slot slot(args.party, block.epoch);
    thread_note(block, thread_wait(args.party, block, rank, slot.read(rank, args.party.rank), block.epoch), rank);
  }
  static_cast<void>(block_fails(args.party, block));
}

/// T is how rows are read, U how they are staged.
template <typename T, typename U>
__global__ void __launch_bounds__(kThreads, 1)
    combine_kernel(const __grid_constant__ LowLatencyCombineArgs args, int rounds) {
  extern __shared__ int table[];
  __shared__ BlockState block;
  const Party& party = args.party;
  block_begin(party, block);
  if (block.is_broken) {
    if (threadIdx.x == 0) thread_report(party, block, FailureKind::kBroken, party.rank);
  } else {
    if (thread_sends(party)) block_send<U>(args, block, table);
    __syncthreads();
    if (thread_receives(party) && block.failure == BlockState::kNoFailure) block_receive<T>(args, block, rounds);
  }
  if (!block_ends_last(&thread_own(party).receive_ended, block)) return;
  if (thread_receives(party) && !block.is_broken) {
    block_announce_read(party, block);
    if (args.is_shared != 0 && *static_cast<volatile std::uint64_t*>(&thread_own(party).broken) == 0) {
      block_await_readers(args, block);
    }
  }
  block_finish(party, block, args.completion);
}

__global__ void refusal_kernel(const __grid_constant__ LowLatencyRefusalArgs args) {
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
    record.kind = LowLatencyKind::kRefused;
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

/// As many as leave every warp some pieces.
int rounds_for(const LowLatencyCombineArgs& args, int elements, int num_sms) {
  constexpr std::int64_t kMost = 7;
  const std::int64_t accesses = args.hidden / elements / kWarpThreads * args.num_tokens;
  const std::int64_t warps = static_cast<std::int64_t>(num_sms) * kThreads / kWarpThreads;
  return static_cast<int>(std::clamp<std::int64_t>(accesses / (2 * warps), 1, kMost));
}

template <typename Kernel>
cudaError_t load(Kernel kernel) {
  cudaFuncAttributes attributes;
  return cudaFuncGetAttributes(&attributes, kernel);
}

}  // namespace

cudaError_t load_low_latency_combine() {
  cudaError_t error = cudaSuccess;
  const auto visit = [&](auto kernel) {
    if (error == cudaSuccess) error = load(kernel);
  };
  for (const int bytes : {16, 8, 4, 2}) {
    with_access(bytes, [&](auto access) {
      using T = decltype(access);
      if constexpr (sizeof(T) >= 2) {
        visit(combine_kernel<T, uint4>);
        visit(combine_kernel<T, uint2>);
        visit(combine_kernel<T, unsigned int>);
        visit(combine_kernel<T, unsigned short>);
      }
    });
  }
  visit(refusal_kernel);
  visit(abandon_kernel);
  visit(progress_kernel);
  return error;
}

cudaError_t launch_low_latency_combine(const LowLatencyCombineArgs& args, int num_sms, cudaStream_t stream) {
  const auto row_bytes = 2 * static_cast<std::uint64_t>(args.hidden);
  const int bytes = access_bytes({row_bytes, reinterpret_cast<std::uint64_t>(args.out)});
  const int staged_bytes = access_bytes({row_bytes, reinterpret_cast<std::uint64_t>(args.x)});
  const std::size_t table = args.is_staged != 0 ? sizeof(int) * static_cast<std::size_t>(args.num_local) : 0;
  const bool does_little = args.party.phases == Phases::kSend && args.is_staged == 0;
  const std::int64_t accesses = (args.hidden * 2 + kWarpThreads * 16 - 1) / (kWarpThreads * 16) * args.num_tokens;
  const std::int64_t useful = args.is_staged != 0 ? num_sms : (accesses * kWarpThreads + kThreads - 1) / kThreads;
  const auto grid = static_cast<unsigned>(does_little ? 1 : std::clamp<std::int64_t>(useful, 1, num_sms));
  cudaError_t error = cudaSuccess;
  with_access(bytes, [&](auto access) {
    using T = decltype(access);
    if constexpr (sizeof(T) >= 2) {
      const auto run = [&](auto kernel) {
        constexpr std::size_t kWithoutAsking = 48 * 1024 - 4096;
        if (table > kWithoutAsking) {
          error = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(table));
          if (error != cudaSuccess) return;
        }
        kernel<<<grid, kThreads, table, stream>>>(args, rounds_for(args, Sums<Bfloat16, T>::kElements, num_sms));
      };
      switch (staged_bytes) {
        case 16: run(combine_kernel<T, uint4>); return;
        case 8: run(combine_kernel<T, uint2>); return;
        case 4: run(combine_kernel<T, unsigned int>); return;
        default: run(combine_kernel<T, unsigned short>); return;
      }
    }
  });
  return error == cudaSuccess ? cudaGetLastError() : error;
}

cudaError_t launch_low_latency_refusal(const LowLatencyRefusalArgs& args, cudaStream_t stream) {
  refusal_kernel<<<1, kMaxRanks, 0, stream>>>(args);
  return cudaGetLastError();
}

cudaError_t launch_low_latency_abandon(const Party& party, cudaStream_t stream) {
  abandon_kernel<<<1, kMaxRanks, 0, stream>>>(party);
  return cudaGetLastError();
}

cudaError_t launch_low_latency_progress(const Party& party, const Completion& completion, cudaStream_t stream) {
  progress_kernel<<<1, kMaxRanks, 0, stream>>>(party, completion);
  return cudaGetLastError();
}

}  // namespace crossdock::cuda::device
