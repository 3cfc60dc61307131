#include "backend/cuda/device/low_latency_dispatch.hpp"

#include <algorithm>

#include "backend/cuda/device/loading.hpp"
#include "backend/cuda/device/low_latency_fetch.cuh"
#include "backend/cuda/device/low_latency_stage.cuh"
#include "backend/cuda/device/party.cuh"
#include "backend/cuda/device/row_access.hpp"

namespace crossdock::cuda::device {

namespace {

constexpr std::size_t kDefaultTable = 32 * 1024;
constexpr std::size_t kMostTable = 200 * 1024;

/// All threads of the last block: everything is staged.
__device__ void block_announce_dispatch(const LowLatencyDispatchArgs& args, BlockState& block) {
  OwnState& own = thread_own(args.party);
  Record record{};
  record.offset = static_cast<std::uint64_t>(args.parcel - args.party.windows[args.party.rank]);
  record.num_tokens = args.num_tokens;
  record.hidden = args.hidden;
  record.max_tokens = args.max_tokens;
  record.kind = OperationKind::kDispatch;
  record.num_topk = args.num_topk;
  record.num_experts = args.num_experts;
  record.id_bytes = static_cast<std::uint32_t>(args.id_bytes);
  record.format = static_cast<std::uint32_t>(args.cast);
  record.obstacle = own.obstacle;
  record.detail[0] = own.detail[0];
  record.detail[1] = own.detail[1];
  if (threadIdx.x == 0) thread_stamp_parcel(block, args.parcel);
  block_announce(args.party, block, record);
  __syncthreads();
  if (threadIdx.x == 0) own.obstacle = Obstacle::kNone;
}

template <typename T, bool kCasts>
__device__ void block_send(const LowLatencyDispatchArgs& args, BlockState& block, const ParcelHeader& staged,
                           const LaneSelection& selection, int* table, const CountPlan& plan, CountFindings& found) {
  // One block counts, the others stage.
  const int others = static_cast<int>(gridDim.x) - 1;
  if (blockIdx.x == 0) block_count(args, block, staged, selection, table, plan, found);
  if (blockIdx.x != 0 || others == 0) {
    if (block_parcel_is_free(args.party, block, staged, args.is_captured != 0)) {
      block_stage_rows<T, kCasts>(args, max(static_cast<int>(blockIdx.x) - 1, 0), max(others, 1));
    }
  }
  if (!block_ends_last(&thread_own(args.party).send_ended, block)) return;
  if (thread_look(&thread_own(args.party).broken) == 0) block_announce_dispatch(args, block);
}

template <typename T>
__device__ void block_receive(const LowLatencyDispatchArgs& args, BlockState& block, int* table) {
  __shared__ Record records[kMaxRanks];
  __shared__ Sources sources;
  if (threadIdx.x == 0) sources.most_tokens = 0;
  if (!block_await_records(args.party, block, records)) return;
  const plan::ExpertMap experts(args.num_experts, args.party.num_ranks);
  // One block says where this rank's own rows are, the others fetch.
  const int others = static_cast<int>(gridDim.x) - 1;
  if (blockIdx.x != 0 || others == 0) {
    block_plan_fetch(args, block, experts, records, sources, table);
    grid_fetch<T>(args, experts, sources, table, max(static_cast<int>(blockIdx.x) - 1, 0), max(others, 1));
  }
  if (blockIdx.x != 0) return;
  if (args.party.notes_progress && thread_is_in_last_warp()) {
    warp_note_progress(args.party, block);
  }
  block_place(args, block, experts, table);
}

/// All threads of the last block. What comes after a dispatch in the order of a stream finds no rows if that failed.
__device__ void block_clear_results(const LowLatencyDispatchArgs& args) {
  const int num_local = plan::ExpertMap(args.num_experts, args.party.num_ranks).count(args.party.rank);
  const auto begin = static_cast<int>(threadIdx.x);
  for (int i = begin; i < num_local; i += block_threads()) args.count[i] = 0;
  for (int i = begin; i < num_local * args.party.num_ranks; i += block_threads()) args.layout_range[i] = 0;
  for (std::int64_t i = begin; i < args.num_tokens * args.num_topk; i += block_threads()) {
    args.places[i] = {-1, Place::kUnknown, 0};
  }
}

/// T is how a staged row is read, U how x is.
template <typename T, typename U, bool kCasts>
__global__ void __launch_bounds__(kDispatchThreads, 1)
    dispatch_kernel(const __grid_constant__ LowLatencyDispatchArgs args, const CountPlan plan) {
  extern __shared__ int table[];
  __shared__ BlockState block;
  __shared__ CountFindings found;
  const Party& party = args.party;
  // What needs nothing from block_begin is on its way meanwhile.
  const ParcelHeader staged = *reinterpret_cast<const ParcelHeader*>(args.parcel);
  LaneSelection selection{-1, -1, 0};
  if (blockIdx.x == 0 && thread_sends(party)) selection = block_prepare_count(args, plan, table, found);
  block_begin(party, block);
  if (block.is_broken) {
    if (threadIdx.x == 0) thread_report(party, block, FailureKind::kBroken, party.rank);
  } else {
    if (thread_sends(party)) {
      block_send<U, kCasts>(args, block, staged, selection, table, plan, found);
      if (threadIdx.x == 0) block.deadline = thread_clock_ns() + party.timeout_ns;
    }
    __syncthreads();
    if (thread_receives(party) && block.failure == BlockState::kNoFailure) block_receive<T>(args, block, table);
  }
  if (!block_ends_last(&thread_own(party).receive_ended, block)) return;
  if (thread_receives(party) && !block.is_broken) static_cast<void>(block_has_standing(party, block));
  if (thread_receives(party) && !block.is_broken) block_announce_read(party, block);
  if (thread_receives(party) && block.has_failed) block_clear_results(args);
  block_finish(party, block, args.completion);
}

/// One block counts. The others are for what there is to fetch if the other ranks have as many tokens, or more.
GridShape shape_for(const LowLatencyDispatchArgs& args, int num_sms) {
  constexpr std::int64_t kLikelyShare = 4;  // of the tokens that another rank may have
  constexpr std::int64_t kPieceBytes = kFetchLoads * kWarpThreads * 16;
  const ParcelLayout parcel(0, args.hidden, args.cast, args.num_topk);
  const std::int64_t pieces = (parcel.row_bytes() + kPieceBytes - 1) / kPieceBytes + 1;
  const std::int64_t tokens = std::max(args.num_tokens, args.max_tokens / kLikelyShare);
  GridShape shape(tokens * args.party.num_ranks * pieces, num_sms - 1, kDispatchThreads);
  shape.blocks = std::min(shape.blocks + 1, num_sms);
  return shape;
}

template <typename T, typename U, bool kCasts>
cudaError_t launch(const LowLatencyDispatchArgs& args, int num_sms, cudaStream_t stream) {
  const std::size_t least = sizeof(int) * 2 * static_cast<std::size_t>(args.num_experts + args.party.num_ranks);
  const std::size_t bytes = std::max(kDefaultTable, least);
  const auto kernel = dispatch_kernel<T, U, kCasts>;
  if (bytes > kDefaultTable) {
    const cudaError_t error =
        cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(bytes));
    if (error != cudaSuccess) return error;
  }
  const GridShape shape = shape_for(args, num_sms);
  const CountPlan plan(args.num_tokens * args.num_topk, args.num_experts, shape.threads,
                       static_cast<int>(bytes / sizeof(int)));
  kernel<<<static_cast<unsigned>(shape.blocks), static_cast<unsigned>(shape.threads), bytes, stream>>>(args, plan);
  return cudaGetLastError();
}

/// Calls body(kernel) for each.
template <typename Body>
cudaError_t for_each_kernel(const Body& body) {
  cudaError_t error = cudaSuccess;
  const auto visit = [&](auto kernel) {
    if (error == cudaSuccess) error = body(kernel);
  };
  for (const int bytes : {16, 8, 4, 2, 1}) {
    with_access(bytes, [&](auto access) {
      using T = decltype(access);
      if constexpr (sizeof(T) >= 2) visit(dispatch_kernel<T, T, false>);
      if constexpr (sizeof(T) >= 8) visit(dispatch_kernel<T, uint4, true>);
      visit(dispatch_kernel<T, unsigned short, true>);
    });
  }
  return error;
}

}  // namespace

cudaError_t load_low_latency_dispatch() {
  return for_each_kernel([](auto kernel) { return load_kernels(kernel); });
}

int max_low_latency_experts() { return static_cast<int>(kMostTable / (2 * sizeof(int))) - kMaxRanks; }

cudaError_t launch_low_latency_dispatch(const LowLatencyDispatchArgs& args, int num_sms, cudaStream_t stream) {
  cudaError_t error = cudaSuccess;
  const auto x = reinterpret_cast<std::uint64_t>(args.x);
  const auto stride = static_cast<std::uint64_t>(args.x_stride);
  const auto hidden = static_cast<std::uint64_t>(args.hidden);
  if (args.cast == Cast::kNone) {
    with_access(access_bytes({x, stride, 2 * hidden}), [&](auto access) {
      using T = decltype(access);
      if constexpr (sizeof(T) >= 2) error = launch<T, T, false>(args, num_sms, stream);
    });
    return error;
  }
  const bool is_aligned = access_bytes({x, stride, 2 * hidden}) == 16;
  with_access(access_bytes({hidden}), [&](auto access) {
    using T = decltype(access);
    if (is_aligned) {
      if constexpr (sizeof(T) >= 8) error = launch<T, uint4, true>(args, num_sms, stream);
    } else {
      error = launch<T, unsigned short, true>(args, num_sms, stream);
    }
  });
  return error;
}

}  // namespace crossdock::cuda::device
