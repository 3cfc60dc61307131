// What an expanded dispatch does otherwise: groups, rows of selections, padding.
#include <algorithm>
#include <limits>
#include <vector>

#include "backend/host/dispatch.hpp"
#include "backend/host/excluded.hpp"
#include "base/error.hpp"
#include "plan/layout.hpp"

namespace crossdock::host {

void Dispatch::read_groups() {
  const auto num_experts = static_cast<std::size_t>(handle_.num_experts);
  std::vector<std::int32_t> selections;
  for (int src = 0; src < group_->num_ranks(); ++src) {
    const auto counts = group_->windows.layout.expert_counts(group_->windows.slot(src, request_.epoch));
    selections.insert(selections.end(), counts.begin(), counts.begin() + static_cast<std::ptrdiff_t>(num_experts));
    if (!takes_part(src)) std::fill(selections.end() - static_cast<std::ptrdiff_t>(num_experts), selections.end(), 0);
  }
  DispatchHandle::State& handle = *request_.new_handle;
  handle.groups.emplace(std::move(selections), group_->num_ranks(), experts_, handle_.expert_alignment);
  for (int dst = 0; dst < group_->num_ranks(); ++dst) {
    constexpr std::int64_t kMostRows = std::numeric_limits<std::int32_t>::max();
    if (const std::int64_t rows = num_rows_of(dst); rows > kMostRows) {
      Error error = make_error(ErrorCode::kCapacity, "dispatch: rank {} would receive {} rows, at most {} are allowed",
                               dst, rows, kMostRows);
      throw error.with_rank(dst);
    }
    for (int src = 0; src < group_->num_ranks(); ++src) {
      handle.counts.at(src, dst) = static_cast<std::int32_t>(handle.groups->num_sent(src, dst));
    }
  }
}

std::int64_t Dispatch::num_rows_of(int rank) const {
  return handle_.is_expanded() ? handle_.groups->num_rows(rank) : handle_.counts.num_recv(rank);
}

void Dispatch::route_selections() {
  const Tensor& ids = *request_.topk_idx;
  plan::TopkIds topk{.ids = {}, .num_tokens = ids.size(0), .num_topk = static_cast<int>(ids.size(1))};
  if (ids.dtype() == DataType::kInt64) {
    topk.ids = ids.data_as<const std::int64_t>();
  } else {
    topk.ids = ids.data_as<const std::int32_t>();
  }
  plan::RouteTable& route = request_.new_handle->route;
  route = plan::make_expanded_route(topk, *handle_.groups, group_->rank());
  if (!excluded_.empty()) route = without(route, excluded_);
}

void Dispatch::finish_groups() const {
  const int first = experts_.begin(group_->rank());
  for (int i = 0; i < experts_.count(group_->rank()); ++i) {
    const std::int64_t end = handle_.groups->row_begin(group_->num_ranks(), first + i);
    const std::int64_t padded_end = handle_.groups->padded_end(first + i);
    clear_rows(end, padded_end - end);
    if (request_.is_cached()) continue;
    result_.group_ends->data_as<std::int32_t>()[i] = static_cast<std::int32_t>(end);
    fill_padding(end, padded_end);
  }
}

void Dispatch::fill_padding(std::int64_t begin, std::int64_t end) const {
  std::fill_n(result_.recv_topk_weights->data_as<float>() + begin, end - begin, 0.0F);
  std::fill_n(recv_src_idx_.data_as<std::int32_t>() + begin, end - begin, -1);
}

}  // namespace crossdock::host
