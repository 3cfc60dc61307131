#include <crossdock/handle.hpp>

#include <algorithm>
#include <array>
#include <cstring>
#include <memory>
#include <vector>

#include "backend/handle_state.hpp"
#include "base/error.hpp"
#include "plan/parity.hpp"

namespace crossdock {

namespace {

const DispatchHandle::State& checked(const std::shared_ptr<const DispatchHandle::State>& state) {
  if (!state) throw make_error(ErrorCode::kState, "an empty dispatch handle");
  return *state;
}

/// With a worst-case token count the counts are known at the end only; and if the dispatch failed they do not fit the
/// tensors.
const DispatchHandle::State& completed(const std::shared_ptr<const DispatchHandle::State>& state) {
  checked(state).completion.wait();
  return *state;
}

DispatchHandle::State::Counts counts_of(const DispatchHandle::State& state) {
  if (state.fetch_counts) return state.fetch_counts();
  return {state.counts, state.num_tokens_of};
}

Tensor on_host(const DispatchHandle::State& state, const Tensor& tensor) {
  return state.copy_to_host ? state.copy_to_host(tensor) : tensor;
}

struct Membership {
  Tensor on_host;
  bool is_cut = false;  ///< without columns that the handle's table has
};

/// Ranks that were masked get nothing, whatever the table of a device says.
Membership membership_of(const DispatchHandle::State& state, const plan::CountMatrix& counts) {
  if (!state.copy_to_host) return {state.is_token_in_rank};
  Membership membership{state.copy_to_host(state.is_token_in_rank)};
  const auto num_ranks = static_cast<std::size_t>(counts.num_ranks());
  auto* const flags = membership.on_host.data_as<std::uint8_t>();
  for (std::size_t i = 0; i < static_cast<std::size_t>(membership.on_host.num_elements()); ++i) {
    if (flags[i] == 0 || counts.at(state.rank, static_cast<int>(i % num_ranks)) > 0) continue;
    flags[i] = 0;
    membership.is_cut = true;
  }
  return membership;
}

plan::RouteTable route_of(const DispatchHandle::State& state, const Tensor& membership) {
  if (!state.copy_to_host) return state.route;
  return plan::make_route_table(
      {membership.data_as<std::uint8_t>(), static_cast<std::size_t>(membership.num_elements())}, state.num_tokens,
      state.counts.num_ranks());
}

/// A tensor that owns the vector's elements.
Tensor to_tensor(std::vector<std::int32_t> values, std::initializer_list<std::int64_t> shape) {
  auto owner = std::make_shared<std::vector<std::int32_t>>(std::move(values));
  void* data = owner->data();
  return Tensor::own(std::move(owner), data, DataType::kInt32, std::span(shape.begin(), shape.size()));
}

}  // namespace

std::int64_t DispatchHandle::num_tokens() const { return checked(state_).num_tokens; }
std::int64_t DispatchHandle::num_recv_tokens() const {
  const State& state = completed(state_);
  return state.is_on_device() ? counts_of(state).rows.num_recv(state.rank) : state.num_recv_tokens();
}
std::int64_t DispatchHandle::num_recv_rows() const { return checked(state_).num_recv_rows; }
bool DispatchHandle::has_worst_case() const { return checked(state_).has_worst_case; }
Tensor DispatchHandle::recv_src_idx() const { return completed(state_).recv_src_idx; }

Tensor DispatchHandle::rank_prefix_matrix() const {
  const State& state = completed(state_);
  const std::int64_t num_ranks = state.counts.num_ranks();
  return to_tensor(plan::rank_prefix_matrix(counts_of(state).rows), {num_ranks, num_ranks});
}

ParityMatrices DispatchHandle::parity_matrices(int num_channels) const {
  require(num_channels >= 1, "{} channels, at least 1 is allowed", num_channels);
  const State& state = completed(state_);
  if (state.is_expanded()) throw make_error(ErrorCode::kState, "an expanded dispatch has no parity matrices");
  const int num_ranks = state.counts.num_ranks();
  const State::Counts counts = counts_of(state);
  const Tensor src_idx = on_host(state, state.recv_src_idx);
  const std::span<const std::int32_t> received(src_idx.data_as<std::int32_t>(),
                                               static_cast<std::size_t>(counts.rows.num_recv(state.rank)));
  const Membership membership = membership_of(state, counts.rows);
  const plan::RouteTable route = route_of(state, membership.on_host);
  ParityMatrices result;
  result.rank_prefix_matrix = rank_prefix_matrix();
  result.channel_prefix_matrix =
      to_tensor(plan::channel_prefix_matrix(route, num_ranks, num_channels), {num_ranks, num_channels});
  result.recv_channel_prefix_matrix =
      to_tensor(plan::recv_channel_prefix_matrix(received, counts.rows, state.rank, counts.num_tokens_of, num_channels),
                {num_ranks, num_channels});
  result.recv_src_idx = state.recv_src_idx;
  result.is_token_in_rank = membership.is_cut ? membership.on_host : state.is_token_in_rank;
  result.send_head = to_tensor(plan::send_head(route, num_ranks, num_channels), {state.num_tokens, num_ranks});
  return result;
}

}  // namespace crossdock
