#include "core/validation.hpp"

#include <cstdint>
#include <limits>
#include <string>

#include "base/error.hpp"

namespace crossdock {

namespace {

std::string describe(const Device& device) {
  return device.type == DeviceType::kHost ? "the host" : fmt::format("CUDA device {}", device.index);
}

/// A matrix with that many rows, on the buffer's device.
void check_matrix(const Tensor& tensor, const char* name, std::int64_t rows, const Limits& limits) {
  require(tensor.dimensions() == 2, "{} has {} dimensions, 2 are allowed", name, tensor.dimensions());
  require(tensor.size(0) == rows, "{} is {}, but must have {} rows", name, tensor, rows);
  check_device(tensor, name, limits);
}

void check_contiguous(const Tensor& tensor, const char* name) {
  require(tensor.is_contiguous(), "{} must be contiguous (row-major)", name);
}

void check_rows_contiguous(const Tensor& tensor, const char* name) {
  if (tensor.num_elements() == 0) return;  // no row, whatever the strides
  require(tensor.stride(1) == 1 || tensor.size(1) <= 1,
          "rows of {} must be contiguous: stride 1 in dimension 1, not {}", name, tensor.stride(1));
  require(tensor.stride(0) >= tensor.size(1) || tensor.size(0) <= 1, "rows of {} overlap: stride {} for {} elements",
          name, tensor.stride(0), tensor.size(1));
}

void check_scales(const Tensor& scales, std::int64_t rows, const Limits& limits) {
  check_matrix(scales, "x_scales", rows, limits);
  require(scales.size(1) <= std::numeric_limits<std::int32_t>::max(), "x_scales is {}: too many columns", scales);
}

void check_num_experts(int num_experts, const Limits& limits) {
  require(num_experts >= 1, "num_experts is {}, at least 1 is allowed", num_experts);
  require(num_experts <= limits.max_experts,
          "num_experts is {}, but the buffer was made for at most {} (BufferOptions::max_experts)", num_experts,
          limits.max_experts);
}

void check_layout(const DispatchLayout& layout, const DispatchInput& input, const Limits& limits) {
  const auto check_counts = [&](const Tensor& tensor, const char* name) {
    require(tensor.dimensions() == 1 && tensor.dtype() == DataType::kInt32,
            "{} is {}, int32 of one dimension is allowed", name, tensor);
    check_contiguous(tensor, name);
    check_device(tensor, name, limits);
  };
  check_counts(layout.num_tokens_per_rank, "num_tokens_per_rank");
  require(layout.num_tokens_per_rank.size(0) == limits.num_ranks, "num_tokens_per_rank has {} entries for {} ranks",
          layout.num_tokens_per_rank.size(0), limits.num_ranks);
  check_counts(layout.num_tokens_per_expert, "num_tokens_per_expert");
  require(input.num_experts == 0 || layout.num_tokens_per_expert.size(0) == input.num_experts,
          "num_tokens_per_expert has {} entries, but num_experts is {}", layout.num_tokens_per_expert.size(0),
          input.num_experts);
  const Tensor& membership = layout.is_token_in_rank;
  check_matrix(membership, "is_token_in_rank", input.x.size(0), limits);
  require(membership.dtype() == DataType::kBool || membership.dtype() == DataType::kUint8,
          "is_token_in_rank is {}, bool is allowed", membership);
  require(membership.size(1) == limits.num_ranks, "is_token_in_rank is {}, but there are {} ranks", membership,
          limits.num_ranks);
  check_contiguous(membership, "is_token_in_rank");
}

/// Ids that no layout was computed from have not been looked at yet.
template <typename Id>
void check_id_range(const Tensor& topk_idx, int num_experts) {
  const Id* const ids = topk_idx.data_as<const Id>();
  const std::int64_t count = topk_idx.num_elements();
  const auto is_allowed = [num_experts](Id id) { return id >= -1 && id < num_experts; };
  bool all_allowed = true;
  for (std::int64_t i = 0; i < count; ++i) all_allowed &= is_allowed(ids[i]);  // without branches: it runs on every id
  for (std::int64_t i = 0; i < count && !all_allowed; ++i) {
    require(is_allowed(ids[i]), "topk_idx[{}][{}] is {}; allowed are -1 and 0 to {}", i / topk_idx.size(1),
            i % topk_idx.size(1), ids[i], num_experts - 1);
  }
}

void check_topk(const DispatchInput& input, const Limits& limits) {
  require(input.topk_idx.has_value() == input.topk_weights.has_value(),
          "topk_idx is {} and topk_weights {}: both or neither are allowed", input.topk_idx ? "present" : "absent",
          input.topk_weights ? "present" : "absent");
  require(input.topk_idx || input.layout, "without topk_idx the layout must be given");
  require(input.topk_idx || !input.num_worst_tokens, "num_worst_tokens needs topk_idx");
  require(input.topk_idx || !input.expand, "expand needs topk_idx");
  if (!input.topk_idx) return;
  check_topk_idx(*input.topk_idx, num_experts_of(input), limits);
  check_matrix(*input.topk_idx, "topk_idx", input.x.size(0), limits);
  const Tensor& weights = *input.topk_weights;
  require(weights.dtype() == DataType::kFloat32, "topk_weights is {}, float32 is allowed", weights);
  check_matrix(weights, "topk_weights", input.x.size(0), limits);
  const std::int64_t num_topk = input.topk_idx->size(1);
  require(weights.size(1) == num_topk, "topk_weights is {} but topk_idx is {}: their shapes must be equal", weights,
          *input.topk_idx);
  require(!input.expand || input.x.size(0) <= std::numeric_limits<std::int32_t>::max() / num_topk,
          "topk_idx is {}, more selections than 32-bit row numbers allow", *input.topk_idx);
  check_contiguous(weights, "topk_weights");
  if (!input.layout || limits.device.type != DeviceType::kHost) return;  // who counts looks at the ids
  if (input.topk_idx->dtype() == DataType::kInt64) {
    check_id_range<std::int64_t>(*input.topk_idx, num_experts_of(input));
  } else {
    check_id_range<std::int32_t>(*input.topk_idx, num_experts_of(input));
  }
}

void check_combine_weights(const Tensor& weights, const DispatchHandle::State& handle, const Limits& limits) {
  require(weights.dtype() == DataType::kFloat32, "topk_weights is {}, float32 is allowed", weights);
  if (handle.is_expanded()) {
    require(weights.dimensions() == 1 && weights.size(0) == handle.num_recv_rows,
            "topk_weights is {}, but of an expanded dispatch [{}] is allowed: one for each row", weights,
            handle.num_recv_rows);
    check_device(weights, "topk_weights", limits);
  } else {
    check_matrix(weights, "topk_weights", handle.num_recv_rows, limits);
    require(weights.size(1) >= 1, "topk_weights is {}, but top-k must be at least 1", weights);
  }
  check_contiguous(weights, "topk_weights");
}

/// A bias, or `out`: one row per token of this rank, of the kind of x.
void check_like_x(const Tensor& tensor, const char* name, const CombineInput& input, const Limits& limits) {
  check_matrix(tensor, name, input.handle.num_tokens(), limits);
  require(tensor.dtype() == input.x.dtype() && tensor.size(1) == input.x.size(1),
          "{} is {}, but x is {}: dtype and hidden must be equal", name, tensor, input.x);
  check_rows_contiguous(tensor, name);
}

}  // namespace

void check_device(const Tensor& tensor, const char* name, const Limits& limits) {
  if (tensor.device() == limits.device) [[likely]]
    return;
  throw make_error(ErrorCode::kInvalidArgument, "{} lies on {}, but the buffer was made for {} (BufferOptions::device)",
                   name, describe(tensor.device()), describe(limits.device));
}

void check_x(const Tensor& x, const Limits& limits) {
  require(x.dimensions() == 2, "x has {} dimensions, 2 are allowed: [tokens, hidden]", x.dimensions());
  require(x.size(0) <= std::numeric_limits<std::int32_t>::max() / (limits.num_ranks > 0 ? limits.num_ranks : 1),
          "x has {} tokens, more than 32-bit row numbers allow for {} ranks", x.size(0), limits.num_ranks);
  require(x.size(1) >= 1, "x is {}, but hidden must be at least 1", x);
  check_rows_contiguous(x, "x");
  check_device(x, "x", limits);
}

void check_statistics(const std::optional<Tensor>& statistics, const char* name, DataType dtype, int entries,
                      const Limits& limits) {
  if (!statistics) return;
  require(statistics->dtype() == dtype && statistics->dimensions() == 1 && statistics->size(0) == entries &&
              statistics->is_contiguous(),
          "{} is {}, contiguous {} [{}] is allowed", name, *statistics, name_of(dtype), entries);
  check_device(*statistics, name, limits);
}

void check_common_options(const OperationOptions& options, const Limits& limits) {
  require(!options.timeout || options.timeout->count() >= 0, "the timeout of {} ms is negative",
          options.timeout.value_or(Milliseconds{0}).count());
  check_statistics(options.wait_recv_cost_stats, "wait_recv_cost_stats", DataType::kInt64, limits.num_ranks, limits);
}

void check_options(const OperationOptions& options, const Limits& limits) {
  require(options.completion != Completion::kHook, "hooks belong to the low-latency operations");
  if (options.allocation == Allocation::kCommunicationStream) {
    require(options.completion == Completion::kAsynchronous && options.previous_event.has_value(),
            "allocation on the communication stream needs kAsynchronous and a previous_event");
  }
  check_common_options(options, limits);
}

int num_experts_of(const DispatchInput& input) {
  if (input.num_experts != 0 || !input.layout || !input.layout->num_tokens_per_expert.defined())
    return input.num_experts;
  return static_cast<int>(input.layout->num_tokens_per_expert.size(0));
}

void check_topk_idx(const Tensor& topk_idx, int num_experts, const Limits& limits) {
  check_num_experts(num_experts, limits);
  require(topk_idx.dtype() == DataType::kInt64 || topk_idx.dtype() == DataType::kInt32,
          "topk_idx is {}, int64 or int32 is allowed", topk_idx);
  require(topk_idx.dimensions() == 2, "topk_idx has {} dimensions, 2 are allowed: [tokens, top-k]",
          topk_idx.dimensions());
  require(topk_idx.size(1) >= 1 && topk_idx.size(1) <= std::numeric_limits<std::int32_t>::max(),
          "topk_idx is {}, but top-k must be at least 1 (absent top-k is an empty optional)", topk_idx);
  check_contiguous(topk_idx, "topk_idx");
  check_device(topk_idx, "topk_idx", limits);
}

void check_dispatch(const DispatchInput& input, int num_local_experts, const Limits& limits) {
  check_x(input.x, limits);
  require(input.expert_alignment >= 1, "expert_alignment is {}, at least 1 is allowed", input.expert_alignment);
  if (input.x_scales) check_scales(*input.x_scales, input.x.size(0), limits);
  if (input.layout) check_layout(*input.layout, input, limits);
  check_num_experts(num_experts_of(input), limits);
  check_topk(input, limits);
  require(!input.num_worst_tokens || *input.num_worst_tokens >= 0, "num_worst_tokens is {}, at least 0 is allowed",
          input.num_worst_tokens.value_or(0));
  check_statistics(input.cumulative_local_expert_recv_stats, "cumulative_local_expert_recv_stats", DataType::kInt32,
                   num_local_experts, limits);
  if (input.config) input.config->validate();
}

void check_cached_dispatch(const CachedDispatchInput& input, const Limits& limits) {
  require(input.handle.defined(), "a cached dispatch needs the handle of an earlier dispatch");
  check_x(input.x, limits);
  require(input.x.size(0) == input.handle.num_tokens(), "x has {} rows, but the handle's dispatch had {} tokens",
          input.x.size(0), input.handle.num_tokens());
  if (input.x_scales) check_scales(*input.x_scales, input.x.size(0), limits);
  if (input.config) input.config->validate();
}

void check_combine(const CombineInput& input, const Limits& limits) {
  require(input.handle.defined(), "combine needs the handle of a dispatch");
  require(input.x.dtype() == DataType::kBfloat16 || input.x.dtype() == DataType::kFloat32,
          "x is {}, bfloat16 or float32 is allowed", input.x);
  check_x(input.x, limits);
  const std::int64_t rows = input.handle.num_recv_rows();
  require(input.x.size(0) == rows, "x has {} rows, but the dispatch returned {}", input.x.size(0), rows);
  if (input.topk_weights) {
    check_combine_weights(*input.topk_weights, *input.handle.state(), limits);
  }
  require(input.bias_0.has_value() || !input.bias_1.has_value(), "bias_1 without bias_0");
  if (input.bias_0) check_like_x(*input.bias_0, "bias_0", input, limits);
  if (input.bias_1) check_like_x(*input.bias_1, "bias_1", input, limits);
  if (input.out) {
    check_like_x(*input.out, "out", input, limits);
    check_contiguous(*input.out, "out");
  }
  if (input.config) input.config->validate();
}

}  // namespace crossdock
