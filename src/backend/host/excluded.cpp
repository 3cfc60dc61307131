#include "backend/host/excluded.hpp"

#include <cstddef>
#include <memory>

namespace crossdock::host {

namespace {

/// The caller may have brought the table, and keeps it as it is.
Tensor without_columns(const Tensor& membership, const std::vector<bool>& excluded) {
  const auto* from = membership.data_as<std::uint8_t>();
  auto copy = std::make_shared<std::vector<std::uint8_t>>(from, from + membership.num_elements());
  for (std::size_t i = 0; i < copy->size(); ++i) {
    if (excluded[i % excluded.size()]) (*copy)[i] = 0;
  }
  void* data = copy->data();
  return Tensor::own(std::move(copy), data, membership.dtype(), membership.shape());
}

}  // namespace

std::vector<bool> find_excluded(const Signals& signals, int num_ranks, std::uint64_t epoch) {
  if (!signals.masks().in_use()) return {};
  std::vector<bool> result(static_cast<std::size_t>(num_ranks));
  bool has_any = false;
  for (int rank = 0; rank < num_ranks; ++rank) {
    const bool is_out = signals.is_excluded(rank, epoch);
    result[static_cast<std::size_t>(rank)] = is_out;
    has_any |= is_out;
  }
  if (!has_any) result.clear();
  return result;
}

plan::RouteTable without(const plan::RouteTable& route, const std::vector<bool>& excluded) {
  plan::RouteTable result;
  result.begin.push_back(0);
  for (std::size_t token = 0; token + 1 < route.begin.size(); ++token) {
    for (auto i = static_cast<std::size_t>(route.begin[token]); i < static_cast<std::size_t>(route.begin[token + 1]);
         ++i) {
      if (excluded[static_cast<std::size_t>(route.rank[i])]) continue;
      result.rank.push_back(route.rank[i]);
      result.row.push_back(route.row[i]);
      if (!route.column.empty()) result.column.push_back(route.column[i]);
    }
    result.begin.push_back(static_cast<std::int32_t>(result.rank.size()));
  }
  return result;
}

void leave_out(DispatchHandle::State& handle, const std::vector<bool>& excluded) {
  for (int rank = 0; rank < handle.counts.num_ranks(); ++rank) {
    if (!excluded[static_cast<std::size_t>(rank)]) continue;
    handle.num_tokens_of[static_cast<std::size_t>(rank)] = 0;
    for (int other = 0; other < handle.counts.num_ranks(); ++other) {
      handle.counts.at(rank, other) = 0;
      handle.counts.at(other, rank) = 0;
    }
  }
  if (handle.is_token_in_rank.device().type != DeviceType::kHost) return;
  handle.route = without(handle.route, excluded);
  handle.is_token_in_rank = without_columns(handle.is_token_in_rank, excluded);
}

}  // namespace crossdock::host
