#include "backend/cuda/device/completion.cuh"
#include "backend/cuda/device/layout.hpp"
#include "backend/cuda/device/loading.hpp"
#include "backend/cuda/device/stamped.hpp"

namespace crossdock::cuda::device {

namespace {

constexpr unsigned kAllLanes = 0xFFFFFFFFU;
constexpr int kWarps = kLayoutTokens / kWarpThreads;
constexpr int kMaxBlocks = 256;
constexpr int kSharedExperts = 4096;  ///< whose counts fit a block's shared memory

__device__ int thread_owner(const LayoutArgs& args, int expert) {
  const int in_large = args.num_large * (args.small + 1);
  return expert < in_large ? expert / (args.small + 1) : args.num_large + (expert - in_large) / args.small;
}

/// Counts the experts of a token and returns its destinations, one bit a rank.
template <typename Id>
__device__ std::uint64_t thread_read_ids(const LayoutArgs& args, std::int64_t token, std::int32_t* expert_counts) {
  constexpr int kLoads = 8;  // that are in flight at once
  const auto* ids = reinterpret_cast<const Id*>(args.topk_idx) + token * args.num_topk;
  std::uint64_t mask = 0;
  for (int first = 0; first < args.num_topk; first += kLoads) {
    Id some[kLoads];
#pragma unroll
    for (int i = 0; i < kLoads; ++i) some[i] = first + i < args.num_topk ? ids[first + i] : Id{-1};
#pragma unroll
    for (int i = 0; i < kLoads; ++i) {
      const Id id = some[i];
      if (id >= 0 && id < args.num_experts) {
        atomicAdd(&expert_counts[id], 1);
        mask |= std::uint64_t{1} << static_cast<unsigned>(thread_owner(args, static_cast<int>(id)));
      } else if (id != -1) {
        const auto place = static_cast<unsigned long long>(token * args.num_topk + first + i);
        atomicMax(reinterpret_cast<unsigned long long*>(args.scratch.bad_id), ~place);
      }
    }
  }
  return mask;
}

__device__ std::uint64_t thread_read_membership(const LayoutArgs& args, std::int64_t token) {
  std::uint64_t mask = 0;
  for (int rank = 0; rank < args.num_ranks; ++rank) {
    if (args.membership[token * args.num_ranks + rank] != 0) mask |= std::uint64_t{1} << static_cast<unsigned>(rank);
  }
  return mask;
}

__device__ std::uint64_t thread_destinations(const LayoutArgs& args, std::int64_t token, std::int32_t* expert_counts) {
  std::uint64_t mask = 0;
  if (args.topk_idx != nullptr) {
    mask = args.id_bytes == 8 ? thread_read_ids<long long>(args, token, expert_counts)
                              : thread_read_ids<int>(args, token, expert_counts);
  }
  if (args.membership != nullptr) return thread_read_membership(args, token);
  for (int rank = 0; rank < args.num_ranks; ++rank) {
    args.is_token_in_rank[token * args.num_ranks + rank] = static_cast<std::uint8_t>(mask >> rank & 1U);
  }
  return mask;
}

/// A block's tokens, kLayoutTokens at a time, one to a thread; they may lie beyond the last.
class Tile {
 public:
  __device__ explicit Tile(const LayoutArgs& args) {
    const std::int64_t tiles = (args.num_tokens + kLayoutTokens - 1) / kLayoutTokens;
    left_ = (tiles + gridDim.x - 1) / gridDim.x;
    token_ = blockIdx.x * left_ * kLayoutTokens + threadIdx.x;
  }
  [[nodiscard]] __device__ bool is_valid() const { return left_ > 0; }
  [[nodiscard]] __device__ std::int64_t token() const { return token_; }
  __device__ void step() {
    --left_;
    token_ += kLayoutTokens;
  }

 private:
  std::int64_t left_;
  std::int64_t token_;
};

/// What this block found joins the totals of all.
__device__ void block_add_totals(const LayoutArgs& args, const std::int32_t* rank_counts,
                                 const std::int32_t* expert_counts) {
  for (int rank = static_cast<int>(threadIdx.x); rank < args.num_ranks; rank += kLayoutTokens) {
    const std::int64_t index = static_cast<std::int64_t>(blockIdx.x) * args.num_ranks + rank;
    if (args.scratch.stamped_counts != nullptr) {
      const auto count = static_cast<std::uint32_t>(rank_counts[rank]);
      thread_set(&args.scratch.stamped_counts[index], stamped(args.message.number, count));
    } else {
      args.scratch.block_counts[index] = rank_counts[rank];
    }
    atomicAdd(&args.scratch.rank_totals[rank], rank_counts[rank]);
  }
  if (args.num_experts > kSharedExperts) return;
  for (int expert = static_cast<int>(threadIdx.x); expert < args.num_experts; expert += kLayoutTokens) {
    if (expert_counts[expert] != 0) atomicAdd(&args.scratch.expert_totals[expert], expert_counts[expert]);
  }
}

/// Moves totals to where they are wanted, and leaves zeros. `first_word` is where they are in the message.
__device__ void block_publish(const CountMessage& message, int first_word, std::int32_t* totals, int count,
                              std::int32_t* found, std::int32_t* tensor) {
  for (int i = static_cast<int>(threadIdx.x); i < count; i += kLayoutTokens) {
    const std::int32_t total = __ldcg(&totals[i]);
    totals[i] = 0;
    if (message.words != nullptr) {
      thread_set(&message.words[first_word + i], stamped(message.number, static_cast<std::uint32_t>(total)));
    } else {
      found[i] = total;
    }
    if (tensor != nullptr) tensor[i] = total;
  }
}

__device__ void thread_publish_bad_id(const LayoutArgs& args) {
  const std::uint64_t bad_id = __ldcg(reinterpret_cast<const unsigned long long*>(args.scratch.bad_id));
  *args.scratch.bad_id = 0;
  if (args.message.words == nullptr) {
    *args.counts.bad_id = bad_id;
    return;
  }
  std::uint64_t* const words = args.message.words + args.num_ranks + args.num_experts;
  thread_set(&words[0], stamped(args.message.number, static_cast<std::uint32_t>(bad_id)));
  thread_set(&words[1], stamped(args.message.number, static_cast<std::uint32_t>(bad_id >> 32U)));
}

/// Counts, and publishes what all blocks have counted.
__device__ void block_count(const LayoutArgs& args) {
  extern __shared__ std::int32_t shared_expert_counts[];
  __shared__ std::int32_t rank_counts[kMaxRanks];
  __shared__ bool is_last;
  std::int32_t* const expert_counts =
      args.num_experts > kSharedExperts ? args.scratch.expert_totals : shared_expert_counts;
  for (int i = static_cast<int>(threadIdx.x); i < args.num_ranks; i += kLayoutTokens) rank_counts[i] = 0;
  if (args.num_experts <= kSharedExperts) {
    for (int i = static_cast<int>(threadIdx.x); i < args.num_experts; i += kLayoutTokens) expert_counts[i] = 0;
  }
  __syncthreads();
  for (Tile tile(args); tile.is_valid(); tile.step()) {
    const std::int64_t token = tile.token();
    const bool is_token = token < args.num_tokens;
    const std::uint64_t mask = is_token ? thread_destinations(args, token, expert_counts) : 0;
    if (is_token) args.scratch.masks[token] = mask;
    for (int rank = 0; rank < args.num_ranks; ++rank) {
      const int count = __popc(__ballot_sync(kAllLanes, (mask >> rank & 1U) != 0));
      if (count != 0 && threadIdx.x % kWarpThreads == 0) atomicAdd(&rank_counts[rank], count);
    }
  }
  __syncthreads();
  block_add_totals(args, rank_counts, expert_counts);
  const bool mine_is_last = block_is_last_here(args.completion.blocks_ended);
  if (threadIdx.x == 0) is_last = mine_is_last;
  __syncthreads();
  if (!is_last) return;
  block_publish(args.message, 0, args.scratch.rank_totals, args.num_ranks, args.counts.per_rank,
                args.num_tokens_per_rank);
  block_publish(args.message, args.num_ranks, args.scratch.expert_totals, args.num_experts, args.counts.per_expert,
                args.num_tokens_per_expert);
  if (threadIdx.x == kLayoutTokens - 1) thread_publish_bad_id(args);  // the first threads have more to publish
  __syncthreads();
  if (threadIdx.x == 0 && args.completion.flag != nullptr) thread_complete(args.completion);
}

/// Tokens for a rank that a block before this one has found.
__device__ std::int32_t thread_find_count(const LayoutArgs& args, unsigned block, int rank) {
  const std::int64_t index = static_cast<std::int64_t>(block) * args.num_ranks + rank;
  if (args.scratch.stamped_counts == nullptr) return args.scratch.block_counts[index];
  // Blocks begin in their order, so that one does not wait for this one to end.
  while (true) {
    const std::uint64_t word = thread_acquire_here(&args.scratch.stamped_counts[index]);
    if (is_stamped(word, args.message.number)) return static_cast<std::int32_t>(value_of(word));
  }
}

/// First rows of this block: the sum over the blocks before it.
__device__ void block_find_first_rows(const LayoutArgs& args, std::int32_t* first_rows) {
  const int lane = static_cast<int>(threadIdx.x % kWarpThreads);
  for (int rank = static_cast<int>(threadIdx.x / kWarpThreads); rank < args.num_ranks; rank += kWarps) {
    std::int32_t sum = 0;
    for (unsigned block = static_cast<unsigned>(lane); block < blockIdx.x; block += kWarpThreads) {
      sum += thread_find_count(args, block, rank);
    }
    sum = __reduce_add_sync(kAllLanes, sum);
    if (lane == 0) first_rows[rank] = sum;
  }
  __syncthreads();
}

/// Gives each token of this block its rows, once it and those before it have counted.
__device__ void block_find_rows(const LayoutArgs& args) {
  __shared__ std::int32_t first_rows[kMaxRanks];
  __shared__ std::int32_t warp_counts[kWarps][kMaxRanks];
  block_find_first_rows(args, first_rows);
  const int lane = static_cast<int>(threadIdx.x % kWarpThreads);
  const int warp = static_cast<int>(threadIdx.x / kWarpThreads);
  for (Tile tile(args); tile.is_valid(); tile.step()) {
    const std::int64_t token = tile.token();
    const std::uint64_t mask = token < args.num_tokens ? args.scratch.masks[token] : 0;
    for (int rank = 0; rank < args.num_ranks; ++rank) {
      const unsigned lanes = __ballot_sync(kAllLanes, (mask >> rank & 1U) != 0);
      if (lane == 0) warp_counts[warp][rank] = __popc(lanes);
    }
    __syncthreads();
    for (int rank = 0; rank < args.num_ranks; ++rank) {
      const bool goes = (mask >> rank & 1U) != 0;
      const unsigned before = __ballot_sync(kAllLanes, goes) & ((1U << static_cast<unsigned>(lane)) - 1U);
      if (token >= args.num_tokens) continue;
      std::int32_t row = first_rows[rank] + __popc(before);
      for (int w = 0; w < warp; ++w) row += warp_counts[w][rank];
      args.rows[token * args.num_ranks + rank] = goes ? row : -1;
    }
    __syncthreads();
    for (int rank = static_cast<int>(threadIdx.x); rank < args.num_ranks; rank += kLayoutTokens) {
      for (int w = 0; w < kWarps; ++w) first_rows[rank] += warp_counts[w][rank];
    }
    __syncthreads();
  }
}

__global__ void __launch_bounds__(kLayoutTokens) count_kernel(const __grid_constant__ LayoutArgs args) {
  block_count(args);
}

__global__ void __launch_bounds__(kLayoutTokens) rows_kernel(const __grid_constant__ LayoutArgs args) {
  block_find_rows(args);
}

/// Both: one launch less.
__global__ void __launch_bounds__(kLayoutTokens) layout_kernel(const __grid_constant__ LayoutArgs args) {
  block_count(args);
  block_find_rows(args);
}

}  // namespace

cudaError_t load_layout() { return load_kernels(count_kernel, rows_kernel, layout_kernel); }

int layout_blocks(std::int64_t num_tokens) {
  const std::int64_t tiles = (num_tokens + kLayoutTokens - 1) / kLayoutTokens;
  return tiles < 1 ? 1 : tiles > kMaxBlocks ? kMaxBlocks : static_cast<int>(tiles);
}

cudaError_t launch_layout(const LayoutArgs& args, cudaStream_t stream) {
  const auto blocks = static_cast<unsigned>(layout_blocks(args.num_tokens));
  const std::size_t shared =
      args.num_experts <= kSharedExperts ? static_cast<std::size_t>(args.num_experts) * sizeof(std::int32_t) : 0;
  if (args.rows != nullptr && args.scratch.stamped_counts != nullptr) {
    layout_kernel<<<blocks, kLayoutTokens, shared, stream>>>(args);
    return cudaGetLastError();
  }
  count_kernel<<<blocks, kLayoutTokens, shared, stream>>>(args);
  if (args.rows != nullptr) rows_kernel<<<blocks, kLayoutTokens, 0, stream>>>(args);
  return cudaGetLastError();
}

}  // namespace crossdock::cuda::device
