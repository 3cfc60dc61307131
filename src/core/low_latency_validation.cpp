#include <algorithm>
#include <array>
#include <cstdint>
#include <limits>
#include <span>
#include <vector>

#include "base/error.hpp"
#include "core/ids_digest.hpp"
#include "core/validation.hpp"

namespace crossdock {

namespace {

/// `rows` is scratch, [num_experts].
template <class Id>
void check_ids(const Tensor& topk_idx, int num_experts, std::int64_t max_tokens, std::span<std::int32_t> rows) {
  std::ranges::fill(rows, 0);
  const auto num_topk = topk_idx.size(1);
  const Id* ids = topk_idx.data_as<Id>();
  for (std::int64_t i = 0; i < topk_idx.num_elements(); ++i) {
    require(ids[i] >= -1 && ids[i] < num_experts, "topk_idx[{}][{}] is {}; allowed are -1 and 0 to {}", i / num_topk,
            i % num_topk, ids[i], num_experts - 1);
    if (ids[i] < 0) continue;
    const std::int32_t count = ++rows[static_cast<std::size_t>(ids[i])];
    require(count <= max_tokens,
            "more than {} rows for expert {}: a token names it twice, and there is no room for that", max_tokens,
            ids[i]);
  }
}

void check_ids(const Tensor& topk_idx, int num_experts, std::int64_t max_tokens) {
  std::array<std::int32_t, 512> few;  // without asking for memory
  const auto count = static_cast<std::size_t>(num_experts);
  std::vector<std::int32_t> many(count > few.size() ? count : 0);
  const std::span<std::int32_t> rows = many.empty() ? std::span(few).first(count) : std::span(many);
  if (topk_idx.dtype() == DataType::kInt64) {
    check_ids<std::int64_t>(topk_idx, num_experts, max_tokens, rows);
  } else {
    check_ids<std::int32_t>(topk_idx, num_experts, max_tokens, rows);
  }
}

void check_same_ids(const Tensor& topk_idx, const LowLatencyHandle::State& handle, const Limits& limits) {
  require(
      (topk_idx.dtype() == DataType::kInt64 || topk_idx.dtype() == DataType::kInt32) && topk_idx.dimensions() == 2 &&
          topk_idx.size(0) == handle.num_tokens && topk_idx.size(1) == handle.num_topk && topk_idx.is_contiguous(),
      "topk_idx is {}, contiguous int64 or int32 [{}, {}] is allowed", topk_idx, handle.num_tokens, handle.num_topk);
  check_device(topk_idx, "topk_idx", limits);
  require(
      limits.device.type != DeviceType::kHost || digest_of_ids(topk_idx) == handle.ids_digest,  // else its kernel does
      "topk_idx has other ids than the dispatch of epoch {} that the handle is of", handle.epoch);
}

}  // namespace

void check_low_latency_options(const OperationOptions& options, const Limits& limits) {
  if (options.completion == Completion::kHook) {
    require(options.allocation == Allocation::kCallerStream,
            "a hook runs on the caller's stream, not the communication stream");
    check_common_options(options, limits);
    return;
  }
  check_options(options, limits);
}

void check_low_latency_dispatch(const LowLatencyDispatchInput& input, int num_local_experts, const Limits& limits) {
  require(input.x.dtype() == DataType::kBfloat16, "x is {}, bfloat16 is allowed", input.x);
  check_x(input.x, limits);
  const std::int64_t most = input.num_max_dispatch_tokens_per_rank;
  require(most >= 0 && most <= std::numeric_limits<std::int32_t>::max() / limits.num_ranks,
          "num_max_dispatch_tokens_per_rank is {}, 0 to {} are allowed", most,
          std::numeric_limits<std::int32_t>::max() / limits.num_ranks);
  require(input.x.size(0) <= most, "x has {} tokens, but num_max_dispatch_tokens_per_rank is {}", input.x.size(0),
          most);
  check_topk_idx(input.topk_idx, input.num_experts, limits);
  require(input.topk_idx.size(0) == input.x.size(0), "topk_idx is {}, but x has {} tokens", input.topk_idx,
          input.x.size(0));
  if (limits.device.type == DeviceType::kHost)
    check_ids(input.topk_idx, input.num_experts, most);  // else its kernel does
  check_statistics(input.cumulative_local_expert_recv_stats, "cumulative_local_expert_recv_stats", DataType::kInt32,
                   num_local_experts, limits);
}

void check_low_latency_combine(const LowLatencyCombineInput& input, const LowLatencyHandle::State& handle,
                               int num_local_experts, const Limits& limits) {
  const Tensor& x = input.x;
  const std::int64_t places = limits.num_ranks * handle.max_tokens;
  require(x.dtype() == DataType::kBfloat16 && x.dimensions() == 3 && x.size(0) == num_local_experts &&
              x.size(1) == places && x.size(2) == handle.hidden,
          "x is {}, bfloat16 [{}, {}, {}] is allowed, as the dispatch's rows", x, num_local_experts, places,
          handle.hidden);
  require(x.is_contiguous(), "x must be contiguous (row-major)");
  check_device(x, "x", limits);
  const auto check_tokens = [&](const Tensor& tensor, const char* name, DataType dtype, std::int64_t columns) {
    require(tensor.dtype() == dtype && tensor.dimensions() == 2 && tensor.size(0) == handle.num_tokens &&
                tensor.size(1) == columns && tensor.is_contiguous(),
            "{} is {}, contiguous {} [{}, {}] is allowed", name, tensor, name_of(dtype), handle.num_tokens, columns);
    check_device(tensor, name, limits);
  };
  check_tokens(input.topk_weights, "topk_weights", DataType::kFloat32, handle.num_topk);
  require(!(input.zero_copy && input.use_logfmt),
          "use_logfmt with zero_copy: LogFMT is a copy; one of them is allowed");
  if (input.topk_idx) check_same_ids(*input.topk_idx, handle, limits);
  if (input.out) check_tokens(*input.out, "out", DataType::kBfloat16, handle.hidden);
}

}  // namespace crossdock
