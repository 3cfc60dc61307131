#include "core/world_checks.hpp"

#include <algorithm>
#include <array>
#include <span>

#include "plan/parity.hpp"

namespace crossdock::testing {

namespace {

template <typename T>
std::span<const std::byte> bytes_of(const std::vector<T>& values) {
  return std::as_bytes(std::span(values));
}

/// [n] as [n, 1].
Tensor as_column(const Tensor& tensor) {
  if (tensor.dimensions() != 1) return tensor;  // which then is a difference
  const std::array shape{tensor.size(0), std::int64_t{1}};
  return Tensor::own(tensor.owner(), tensor.data(), tensor.dtype(), shape, tensor.device());
}

}  // namespace

WorldChecks::WorldChecks(const RandomWorld& world, int rank, const TensorPlace& place)
    : world_(world),
      rank_(rank),
      input_(world.routing.ranks[static_cast<std::size_t>(rank)]),
      routed_(world.routed[static_cast<std::size_t>(rank)]),
      expected_(world.expected[static_cast<std::size_t>(rank)]),
      differences_(place) {}

void WorldChecks::check(const DispatchLayout& layout) {
  std::vector<std::int32_t> per_expert(static_cast<std::size_t>(world_.num_experts));
  for (const std::int64_t id : input_.topk_idx) {
    if (id >= 0) ++per_expert[static_cast<std::size_t>(id)];
  }
  std::vector<std::int32_t> per_rank;
  per_rank.reserve(static_cast<std::size_t>(world_.num_ranks()));
  for (int dst = 0; dst < world_.num_ranks(); ++dst) per_rank.push_back(counts_of(world_.routed).at(rank_, dst));
  check_values("num_tokens_per_expert", layout.num_tokens_per_expert, per_expert);
  check_values("num_tokens_per_rank", layout.num_tokens_per_rank, per_rank);
  differences_.compare("presence of num_tokens_per_node", layout.num_tokens_per_node.has_value(), false);
  check_flags(layout.is_token_in_rank);
}

void WorldChecks::check(const DispatchOutput& output) {
  differences_.compare_rows("recv_x", output.recv_x, world_.x, num_rows(), expected_.recv_x);
  check_scales(output, world_.scales, expected_.recv_scales);
  check_topk(output);
  std::vector<std::int32_t> counts;
  if (!world_.num_worst_tokens) {
    const int alignment = world_.expert_alignment;
    for (const std::int32_t count : routed_.num_tokens_per_expert) {
      counts.push_back((count + alignment - 1) / alignment * alignment);
    }
  }
  differences_.compare("num_recv_tokens_per_expert", output.num_recv_tokens_per_expert, counts);
  differences_.compare("presence of psum_num_recv_tokens_per_expert",
                       output.psum_num_recv_tokens_per_expert.has_value(), world_.expand);
  if (output.psum_num_recv_tokens_per_expert) {
    check_values("psum_num_recv_tokens_per_expert", *output.psum_num_recv_tokens_per_expert, expected_.group_ends);
  }
}

void WorldChecks::check_scales(const DispatchOutput& output, const MatrixShape& shape,
                               const std::vector<std::byte>& expected) {
  differences_.compare("presence of recv_x_scales", output.recv_x_scales.has_value(), shape.columns > 0);
  if (!output.recv_x_scales) return;
  differences_.compare_rows("recv_x_scales", *output.recv_x_scales, shape, num_rows(), expected);
}

/// Rows of a worst-case dispatch that were not received have ids -1 and weights 0.
void WorldChecks::check_topk(const DispatchOutput& output) {
  const bool has_ids = world_.with_topk && !world_.expand;
  differences_.compare("presence of recv_topk_idx", output.recv_topk_idx.has_value(), has_ids);
  differences_.compare("presence of recv_topk_weights", output.recv_topk_weights.has_value(), world_.with_topk);
  if (!output.recv_topk_weights) return;
  const std::int64_t num_topk = world_.expand ? 1 : world_.routing.num_topk;
  const auto size = static_cast<std::size_t>(num_rows() * num_topk);
  std::vector<float> weights = expected_.recv_topk_weights;
  weights.resize(size, 0.0F);
  const Tensor received = world_.expand ? as_column(*output.recv_topk_weights) : *output.recv_topk_weights;
  differences_.compare_rows("recv_topk_weights", received, {DataType::kFloat32, num_topk}, num_rows(),
                            bytes_of(weights));
  if (!output.recv_topk_idx) return;
  std::vector<std::int64_t> ids = expected_.recv_topk_idx;
  ids.resize(size, -1);
  const std::vector<std::int32_t> narrow_ids(ids.begin(), ids.end());
  differences_.compare_rows("recv_topk_idx", *output.recv_topk_idx, {world_.id_dtype, num_topk}, num_rows(),
                            world_.id_dtype == DataType::kInt64 ? bytes_of(ids) : bytes_of(narrow_ids));
}

plan::CountMatrix WorldChecks::counts_of(const std::vector<reference::DispatchedRank>& ranks) const {
  plan::CountMatrix counts(world_.num_ranks());
  for (int dst = 0; dst < world_.num_ranks(); ++dst) {
    for (const int src : ranks[static_cast<std::size_t>(dst)].recv_src_rank) {
      if (src >= 0) ++counts.at(src, dst);
    }
  }
  return counts;
}

void WorldChecks::check(const DispatchHandle& handle, int num_channels) {
  differences_.compare("num_tokens", handle.num_tokens(), input_.num_tokens);
  differences_.compare("num_recv_tokens", handle.num_recv_tokens(), expected_.num_recv_tokens);
  differences_.compare("num_recv_rows", handle.num_recv_rows(), num_rows());
  differences_.compare("rows of recv_src_idx", handle.recv_src_idx().size(0), num_rows());
  std::vector<std::int32_t> sources = expected_.recv_src_idx;
  if (world_.expand) sources.resize(static_cast<std::size_t>(num_rows()), -1);
  check_values("recv_src_idx", handle.recv_src_idx().first(static_cast<std::int64_t>(sources.size())), sources);
  check_values("rank_prefix_matrix", handle.rank_prefix_matrix(), plan::rank_prefix_matrix(counts_of(world_.expected)));
  if (!world_.expand) check_parity(handle, num_channels);
}

void WorldChecks::check_parity(const DispatchHandle& handle, int num_channels) {
  const plan::CountMatrix counts = counts_of(world_.expected);
  const int num_ranks = world_.num_ranks();
  const ParityMatrices matrices = handle.parity_matrices(num_channels);
  const auto route = plan::make_route_table(routed_.is_token_in_rank, input_.num_tokens, num_ranks);
  std::vector<std::int64_t> num_tokens;
  for (const reference::DispatchRank& rank : world_.routing.ranks) num_tokens.push_back(rank.num_tokens);
  check_values("parity rank_prefix_matrix", matrices.rank_prefix_matrix, plan::rank_prefix_matrix(counts));
  check_values("parity channel_prefix_matrix", matrices.channel_prefix_matrix,
               plan::channel_prefix_matrix(route, num_ranks, num_channels));
  check_values("parity recv_channel_prefix_matrix", matrices.recv_channel_prefix_matrix,
               plan::recv_channel_prefix_matrix(expected_.recv_src_idx, counts, rank_, num_tokens, num_channels));
  check_values("parity recv_src_idx", matrices.recv_src_idx.first(expected_.num_recv_tokens), expected_.recv_src_idx);
  check_values("parity send_head", matrices.send_head, plan::send_head(route, num_ranks, num_channels));
  check_flags(matrices.is_token_in_rank);
}

void WorldChecks::check_cached(const DispatchOutput& output) {
  const CachedPart& part = *world_.cached;
  const reference::DispatchedRank& expected = part.expected[static_cast<std::size_t>(rank_)];
  differences_.compare_rows("cached recv_x", output.recv_x, part.x, num_rows(), expected.recv_x);
  check_scales(output, part.scales, expected.recv_scales);
  differences_.compare("presence of cached recv_topk_idx", output.recv_topk_idx.has_value(), false);
  differences_.compare("presence of cached recv_topk_weights", output.recv_topk_weights.has_value(), false);
  differences_.compare("cached num_recv_tokens_per_expert", output.num_recv_tokens_per_expert, {});
  differences_.compare("presence of cached psum_num_recv_tokens_per_expert",
                       output.psum_num_recv_tokens_per_expert.has_value(), false);
}

void WorldChecks::check_combine_input(const Tensor& tensor) {
  differences_.compare_rows("combine_input", tensor, world_.combine->x, num_rows(), {});
}

void WorldChecks::check(const CombineOutput& output) {
  const CombinePart& part = *world_.combine;
  const reference::CombinedRank& expected = part.expected[static_cast<std::size_t>(rank_)];
  differences_.compare_rows("combined_x", output.combined_x, part.x, input_.num_tokens, expected.combined_x);
  const bool has_weights = part.world.num_topk > 0;
  differences_.compare("presence of combined_topk_weights", output.combined_topk_weights.has_value(), has_weights);
  if (!output.combined_topk_weights) return;
  differences_.compare_rows("combined_topk_weights", *output.combined_topk_weights,
                            {DataType::kFloat32, part.world.num_topk}, input_.num_tokens,
                            bytes_of(expected.combined_topk_weights));
}

void WorldChecks::check_flags(const Tensor& is_token_in_rank) {
  differences_.compare_rows("is_token_in_rank", is_token_in_rank, {DataType::kBool, world_.num_ranks()},
                            input_.num_tokens, bytes_of(routed_.is_token_in_rank));
}

void WorldChecks::check_values(const std::string& name, const Tensor& got, const std::vector<std::int32_t>& expected) {
  if (got.dtype() != DataType::kInt32 || got.num_elements() != static_cast<std::int64_t>(expected.size())) {
    differences_.add(name + " is " + got.description());
    return;
  }
  const Tensor fetched = differences_.fetch(got);
  const std::span values(fetched.data_as<const std::int32_t>(), expected.size());
  differences_.compare(name, std::ranges::equal(values, expected), true);
}

}  // namespace crossdock::testing
