#include "core/host_device.hpp"

#include <array>
#include <span>

#include "base/error.hpp"
#include "plan/layout.hpp"

namespace crossdock {

namespace {

std::span<std::int32_t> int32_span(const Tensor& tensor) {
  return {tensor.data_as<std::int32_t>(), static_cast<std::size_t>(tensor.num_elements())};
}

std::span<std::uint8_t> byte_span(const Tensor& tensor) {
  return {tensor.data_as<std::uint8_t>(), static_cast<std::size_t>(tensor.num_elements())};
}

plan::TopkIds topk_ids_of(const Tensor& topk_idx) {
  plan::TopkIds ids;
  if (topk_idx.dtype() == DataType::kInt64) {
    ids.ids = topk_idx.data_as<const std::int64_t>();
  } else {
    ids.ids = topk_idx.data_as<const std::int32_t>();
  }
  ids.num_tokens = topk_idx.size(0);
  ids.num_topk = static_cast<int>(topk_idx.size(1));
  return ids;
}

/// A layout that the caller brought must agree with itself: rows are sent by the membership table, room is made by
/// counts.
void check_counts(const DispatchLayout& layout, const plan::RouteTable& route) {
  std::vector<std::int32_t> counted(static_cast<std::size_t>(layout.num_tokens_per_rank.size(0)));
  for (const std::int32_t rank : route.rank) ++counted[static_cast<std::size_t>(rank)];
  const auto given = int32_span(layout.num_tokens_per_rank);
  for (std::size_t rank = 0; rank < counted.size(); ++rank) {
    require(given[rank] == counted[rank], "num_tokens_per_rank says {} tokens for rank {}, but is_token_in_rank has {}",
            given[rank], rank, counted[rank]);
  }
}

}  // namespace

DispatchLayout HostDevice::compute_layout(const Tensor& topk_idx, int num_experts) {
  const std::int64_t num_ranks = topology_.num_ranks;
  DispatchLayout layout;
  layout.num_tokens_per_rank = allocate(DataType::kInt32, std::array{num_ranks});
  layout.num_tokens_per_expert = allocate(DataType::kInt32, std::array{std::int64_t{num_experts}});
  layout.is_token_in_rank = allocate(DataType::kBool, std::array{topk_idx.size(0), num_ranks});
  plan::LayoutSpans spans;
  if (!topology_.is_single_node()) {
    layout.num_tokens_per_node = allocate(DataType::kInt32, std::array{std::int64_t{topology_.num_nodes()}});
    spans.num_tokens_per_node = int32_span(*layout.num_tokens_per_node);
  }
  spans.num_tokens_per_rank = int32_span(layout.num_tokens_per_rank);
  spans.num_tokens_per_expert = int32_span(layout.num_tokens_per_expert);
  spans.is_token_in_rank = byte_span(layout.is_token_in_rank);
  plan::compute_layout(topk_ids_of(topk_idx), plan::ExpertMap(num_experts, topology_.num_ranks), topology_, spans);
  return layout;
}

std::function<void()> HostDevice::plan(const DispatchInput& input, DispatchHandle::State& state) {
  state.is_expanded() ? plan_expanded(input, state) : plan_rows(input, state);
  return [] {};
}

void HostDevice::plan_rows(const DispatchInput& input, DispatchHandle::State& state) {
  const DispatchLayout layout = input.layout ? *input.layout : compute_layout(*input.topk_idx, state.num_experts);
  state.is_token_in_rank = layout.is_token_in_rank;
  state.route = plan::make_route_table(byte_span(layout.is_token_in_rank), state.num_tokens, topology_.num_ranks);
  if (input.layout) check_counts(layout, state.route);
  const auto per_rank = int32_span(layout.num_tokens_per_rank);
  state.num_tokens_per_rank.assign(per_rank.begin(), per_rank.end());
  const auto per_expert = int32_span(layout.num_tokens_per_expert);
  state.num_tokens_per_expert.assign(per_expert.begin(), per_expert.end());
}

void HostDevice::plan_expanded(const DispatchInput& input, DispatchHandle::State& state) {
  // Rows follow from the ids, whatever the caller has counted.
  const DispatchLayout layout = compute_layout(*input.topk_idx, state.num_experts);
  state.is_token_in_rank = layout.is_token_in_rank;
  const auto per_rank = int32_span(layout.num_tokens_per_rank);
  state.num_tokens_per_rank.assign(per_rank.begin(), per_rank.end());
  const auto per_expert = int32_span(layout.num_tokens_per_expert);
  state.num_tokens_per_expert.assign(per_expert.begin(), per_expert.end());
  if (!input.layout) return;
  const auto given = int32_span(input.layout->num_tokens_per_expert);
  for (std::size_t e = 0; e < given.size(); ++e) {
    require(given[e] == per_expert[e], "num_tokens_per_expert says {} for expert {}, but topk_idx selects it {} times",
            given[e], e, per_expert[e]);
  }
}

}  // namespace crossdock
