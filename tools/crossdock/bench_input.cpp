#include "crossdock/bench_input.hpp"

#include <algorithm>
#include <cstdlib>
#include <memory>
#include <numeric>

#include "base/error.hpp"
#include "crossdock/machine.hpp"

namespace crossdock::tool {

namespace {

constexpr std::size_t kAlignment = 64;

std::int64_t bytes_of(const std::optional<Tensor>& tensor) {
  return tensor ? static_cast<std::int64_t>(tensor->num_bytes()) : 0;
}

void fill_topk(DispatchInput& input, const Routing& routing, int rank) {
  const auto ids = routing.ids_of(rank);
  const auto weights = routing.weights_of(rank);
  std::copy(ids.begin(), ids.end(), input.topk_idx->data_as<std::int64_t>());
  std::copy(weights.begin(), weights.end(), input.topk_weights->data_as<float>());
}

void fill_rows(DispatchInput& input, const BenchConfig& config, const RowPattern& pattern, int rank) {
  const auto hidden = static_cast<std::size_t>(config.hidden);
  const auto num_scales = static_cast<std::size_t>(config.num_scales());
  for (std::int64_t token = 0; token < config.num_tokens; ++token) {
    const auto row = static_cast<std::size_t>(token);
    if (config.input_dtype() == PayloadType::kBf16) {
      pattern.fill_bf16(rank, token, {input.x.data_as<Bfloat16>() + row * hidden, hidden});
    } else {
      pattern.fill_fp8(rank, token, {input.x.data_as<std::uint8_t>() + row * hidden, hidden});
      pattern.fill_scales(rank, token, {input.x_scales->data_as<float>() + row * num_scales, num_scales});
    }
  }
}

void require_memory(std::int64_t needed) {
  const std::int64_t available = available_memory_bytes();
  if (available > 0 && needed > available) {
    throw make_error(
        ErrorCode::kCapacity,
        "this run needs {:.1f} GB of memory and {:.1f} GB are available: lower --ranks, --tokens or --hidden",
        static_cast<double>(needed) / 1e9, static_cast<double>(available) / 1e9);
  }
}

}  // namespace

Tensor allocate_tensor(DataType dtype, std::initializer_list<std::int64_t> shape) {
  std::size_t bytes = size_of(dtype);
  for (const auto extent : shape) bytes *= static_cast<std::size_t>(extent);
  const std::size_t rounded = std::max(bytes + kAlignment - 1, kAlignment) / kAlignment * kAlignment;
  const std::shared_ptr<void> memory(std::aligned_alloc(kAlignment, rounded), [](void* data) { std::free(data); });
  if (!memory) throw make_error(ErrorCode::kCapacity, "out of memory: {} bytes for a tensor", rounded);
  return Tensor::own(memory, memory.get(), dtype, {shape.begin(), shape.size()});
}

DispatchInput make_bench_input(const BenchConfig& config, const Routing& routing, const RowPattern& pattern, int rank) {
  const auto& shape = routing.shape;
  DispatchInput input;
  input.num_experts = shape.num_experts;
  input.topk_idx = allocate_tensor(DataType::kInt64, {shape.num_tokens, shape.num_topk});
  input.topk_weights = allocate_tensor(DataType::kFloat32, {shape.num_tokens, shape.num_topk});
  if (config.input_dtype() == PayloadType::kBf16) {
    input.x = allocate_tensor(DataType::kBfloat16, {shape.num_tokens, config.hidden});
  } else {
    input.x = allocate_tensor(DataType::kFloat8E4m3, {shape.num_tokens, config.hidden});
    input.x_scales = allocate_tensor(DataType::kFloat32, {shape.num_tokens, config.num_scales()});
  }
  fill_topk(input, routing, rank);
  fill_rows(input, config, pattern, rank);
  return input;
}

std::int64_t count_bytes(const DispatchInput& input) {
  return bytes_of(input.x) + bytes_of(input.x_scales) + bytes_of(input.topk_idx) + bytes_of(input.topk_weights);
}

std::int64_t count_bytes(const DispatchOutput& output) {
  return bytes_of(output.recv_x) + bytes_of(output.recv_x_scales) + bytes_of(output.recv_topk_idx) +
         bytes_of(output.recv_topk_weights) + bytes_of(output.handle.recv_src_idx());
}

std::int64_t count_bytes(const LowLatencyDispatchOutput& output) {
  return bytes_of(output.packed_recv_x) + bytes_of(output.packed_recv_x_scales) + bytes_of(output.packed_recv_count) +
         bytes_of(output.handle.packed_recv_src_info()) + bytes_of(output.handle.packed_recv_layout_range());
}

std::size_t bench_arena_bytes(const BenchConfig& config, std::int64_t num_recv_rows) {
  constexpr std::size_t kSmallest = 1U << 16U;  // for a rank that receives nothing
  ArenaSizeArgs args;
  args.num_recv_tokens = num_recv_rows;
  args.row_bytes = config.row_bytes();
  args.num_scales = config.num_scales();
  args.num_topk = config.num_topk.value_or(0);
  if (config.expand) args.num_local_experts = (*config.num_experts + config.num_ranks - 1) / config.num_ranks;
  constexpr std::size_t kSlabBytes = 128;
  // The first dispatch's handle stays alive.
  const auto kept = config.cached ? static_cast<std::size_t>(num_recv_rows) * sizeof(std::int32_t) + kSlabBytes : 0;
  if (config.worst_case && config.device != DeviceType::kHost) {
    constexpr int kMostMultiprocessors = 16;  // that ranks of a device have, unless more are asked for
    const std::int64_t num_blocks = std::max(config.num_sms, kMostMultiprocessors) + 1;
    args.num_routes = config.num_tokens * config.num_ranks;
    if (config.expand) args.num_routes += config.num_tokens * args.num_topk + num_blocks * *config.num_experts;
  }
  args.combine_row_bytes = config.combine_source == CombineSource::kInPlace ? 0 : config.combine_row_bytes();
  return std::max(get_arena_size_hint(args) + kept, kSmallest);
}

std::size_t low_latency_bench_arena_bytes(const BenchConfig& config) {
  return get_low_latency_rdma_size_hint(static_cast<int>(config.num_tokens), config.hidden, config.num_ranks,
                                        *config.num_experts);
}

void check_memory(const BenchConfig& config, const std::vector<std::int64_t>& rows) {
  const std::int64_t num_rows = std::accumulate(rows.begin(), rows.end(), std::int64_t{0});
  const std::int64_t num_tokens = config.num_ranks * config.num_tokens;
  std::int64_t needed = num_tokens * (config.payload_bytes() + config.combine_row_bytes());
  needed += num_rows * config.payload_bytes();
  if (config.combine_source != CombineSource::kInPlace) needed += num_rows * config.combine_row_bytes();
  if (config.combine_source == CombineSource::kOutside) needed += num_rows * config.combine_row_bytes();
  require_memory(needed);
}

void check_low_latency_memory(const BenchConfig& config) {
  const std::int64_t num_tokens = config.num_ranks * config.num_tokens;
  std::int64_t needed = 2 * num_tokens * config.combine_row_bytes();
  for (int rank = 0; rank < config.num_ranks; ++rank) {
    needed += static_cast<std::int64_t>(low_latency_bench_arena_bytes(config));
  }
  if (config.combine_source == CombineSource::kOutside) {
    needed += *config.num_experts * num_tokens * config.combine_row_bytes();
  }
  require_memory(needed);
}

}  // namespace crossdock::tool
