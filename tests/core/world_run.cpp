#include "core/world_run.hpp"

#include <algorithm>
#include <bit>
#include <chrono>
#include <cstring>
#include <thread>

#include "plan/experts.hpp"
#include "plan/parity.hpp"
#include "support/draw.hpp"
#include "support/world_tensor.hpp"

namespace crossdock::testing {

namespace {

using reference::CombinedRank;
using reference::CombineRank;
using reference::DispatchedRank;
using reference::DispatchRank;

template <typename T>
std::span<const std::byte> bytes_of(const std::vector<T>& values) {
  return std::as_bytes(std::span(values));
}

/// What one rank does in one world. Choices that ranks need not share are drawn for each rank by itself.
class RankRun {
 public:
  RankRun(Buffer& buffer, const RandomWorld& world)
      : buffer_(buffer),
        world_(world),
        rank_(static_cast<std::size_t>(buffer.rank())),
        draw_(world.seed * 1000 + rank_),
        input_(world.routing.ranks[rank_]),
        expected_(world.expected[rank_]) {}

  void run() {
    std::vector<DispatchOutput> outputs;
    for (int i = 0; i < world_.num_dispatches; ++i) outputs.push_back(dispatch());
    for (const DispatchOutput& output : outputs) {
      output.event.wait();
      check(output);
    }
    check_handle(outputs.front().handle);
    if (world_.cached) outputs.push_back(dispatch_again(outputs.front().handle));
    if (!world_.combine) return;
    // The youngest handle first; all give the same, also after other operations have come between.
    for (std::size_t i = outputs.size(); i-- > 0;) combine(outputs[i].handle, outputs.front().recv_x);
    check(outputs.front());
  }

  [[nodiscard]] const std::vector<std::string>& differences() const { return differences_.lines(); }

 private:
  OperationOptions draw_options() {
    OperationOptions options;
    if (draw_.chance(60)) return options;
    options.completion = Completion::kAsynchronous;
    if (draw_.chance(50)) options.previous_event = buffer_.capture();
    if (options.previous_event && draw_.chance(50)) options.allocation = Allocation::kCommunicationStream;
    return options;
  }

  RowPlacement draw_row_placement() { return draw_.one_of({RowPlacement::kPacked, RowPlacement::kPadded}); }

  std::optional<Tensor> make_scales(const MatrixShape& shape, const std::vector<std::byte>& scales) {
    if (shape.columns == 0) return std::nullopt;
    return make_rows(shape, scales,
                     draw_.one_of({RowPlacement::kPacked, RowPlacement::kPadded, RowPlacement::kTransposed}));
  }

  Tensor make_ids() const {
    if (world_.id_dtype == DataType::kInt64) {
      return make_matrix<std::int64_t>(DataType::kInt64, world_.routing.num_topk, input_.topk_idx);
    }
    const std::vector<std::int32_t> ids(input_.topk_idx.begin(), input_.topk_idx.end());
    return make_matrix<std::int32_t>(DataType::kInt32, world_.routing.num_topk, ids);
  }

  DispatchLayout make_layout() {
    const DispatchLayout layout = buffer_.get_dispatch_layout(make_ids(), world_.num_experts);
    std::vector<std::int32_t> per_expert(static_cast<std::size_t>(world_.num_experts));
    for (const std::int64_t id : input_.topk_idx)
      per_expert[static_cast<std::size_t>(std::max<std::int64_t>(id, 0))] += id >= 0 ? 1 : 0;
    std::vector<std::int32_t> per_rank(world_.routed.size());
    const std::vector<std::uint8_t>& membership = world_.routed[rank_].is_token_in_rank;
    for (std::size_t i = 0; i < membership.size(); ++i) per_rank[i % per_rank.size()] += membership[i];
    compare_values("num_tokens_per_expert", layout.num_tokens_per_expert, per_expert);
    compare_values("num_tokens_per_rank", layout.num_tokens_per_rank, per_rank);
    differences_.compare("num_tokens_per_node", layout.num_tokens_per_node.has_value(), false);
    compare_flags(layout.is_token_in_rank);
    return layout;
  }

  DispatchOutput dispatch() {
    DispatchInput input;
    input.x = make_rows(world_.x, input_.x, draw_row_placement());
    input.x_scales = make_scales(world_.scales, input_.scales);
    if (world_.with_topk) {
      input.topk_idx = make_ids();
      input.topk_weights = make_matrix<float>(DataType::kFloat32, world_.routing.num_topk, input_.topk_weights);
    }
    if (!world_.with_topk || draw_.chance(50)) input.layout = make_layout();
    if (!input.layout || draw_.chance(50)) input.num_experts = world_.num_experts;
    input.expert_alignment = world_.expert_alignment;
    input.num_worst_tokens = world_.num_worst_tokens;
    if (draw_.chance(10)) input.config = get_dispatch_config(buffer_.num_ranks());
    return buffer_.dispatch(input, draw_options());
  }

  void check(const DispatchOutput& output) {
    const std::int64_t rows = world_.num_recv_rows(buffer_.rank());
    differences_.compare_rows("recv_x", output.recv_x, world_.x, rows, expected_.recv_x);
    check_scales(output, world_.scales, rows, expected_);
    check_topk(output, rows);
    std::vector<std::int32_t> counts;
    if (!world_.num_worst_tokens) {
      const int alignment = world_.expert_alignment;
      for (const std::int32_t count : world_.routed[rank_].num_tokens_per_expert) {
        counts.push_back((count + alignment - 1) / alignment * alignment);
      }
    }
    differences_.compare("num_recv_tokens_per_expert", output.num_recv_tokens_per_expert, counts);
  }

  void check_scales(const DispatchOutput& output, const MatrixShape& shape, std::int64_t rows,
                    const DispatchedRank& expected) {
    differences_.compare("presence of recv_x_scales", output.recv_x_scales.has_value(), shape.columns > 0);
    if (!output.recv_x_scales) return;
    differences_.compare_rows("recv_x_scales", *output.recv_x_scales, shape, rows, expected.recv_scales);
  }

  /// Rows that were not received, of a worst-case dispatch, have ids -1 and weights 0.
  void check_topk(const DispatchOutput& output, std::int64_t rows) {
    differences_.compare("presence of recv_topk_idx", output.recv_topk_idx.has_value(), world_.with_topk);
    differences_.compare("presence of recv_topk_weights", output.recv_topk_weights.has_value(), world_.with_topk);
    if (!output.recv_topk_idx || !output.recv_topk_weights) return;
    const auto size = static_cast<std::size_t>(rows * world_.routing.num_topk);
    std::vector<std::int64_t> ids = expected_.recv_topk_idx;
    ids.resize(size, -1);
    std::vector<float> weights = expected_.recv_topk_weights;
    weights.resize(size, 0.0F);
    const std::vector<std::int32_t> narrow_ids(ids.begin(), ids.end());
    const MatrixShape id_shape{world_.id_dtype, world_.routing.num_topk};
    differences_.compare_rows("recv_topk_idx", *output.recv_topk_idx, id_shape, rows,
                              world_.id_dtype == DataType::kInt64 ? bytes_of(ids) : bytes_of(narrow_ids));
    differences_.compare_rows("recv_topk_weights", *output.recv_topk_weights,
                              {DataType::kFloat32, world_.routing.num_topk}, rows, bytes_of(weights));
  }

  plan::CountMatrix expected_counts() const {
    plan::CountMatrix counts(buffer_.num_ranks());
    for (int dst = 0; dst < buffer_.num_ranks(); ++dst) {
      for (const int src : world_.routed[static_cast<std::size_t>(dst)].recv_src_rank) ++counts.at(src, dst);
    }
    return counts;
  }

  void check_handle(const DispatchHandle& handle) {
    const std::int64_t rows = world_.num_recv_rows(buffer_.rank());
    differences_.compare("num_tokens", handle.num_tokens(), input_.num_tokens);
    differences_.compare("num_recv_tokens", handle.num_recv_tokens(), expected_.num_recv_tokens);
    differences_.compare("num_recv_rows", handle.num_recv_rows(), rows);
    compare_values("rank_prefix_matrix", handle.rank_prefix_matrix(), plan::rank_prefix_matrix(expected_counts()));
    differences_.compare("rows of recv_src_idx", handle.recv_src_idx().size(0), rows);
    compare_values("recv_src_idx", handle.recv_src_idx().first(expected_.num_recv_tokens), expected_.recv_src_idx);
    check_parity(handle);
  }

  void check_parity(const DispatchHandle& handle) {
    const auto channels = static_cast<int>(draw_.between(1, 20));
    const int ranks = buffer_.num_ranks();
    const ParityMatrices matrices = handle.parity_matrices(channels);
    const auto route = plan::make_route_table(world_.routed[rank_].is_token_in_rank, input_.num_tokens, ranks);
    std::vector<std::int64_t> num_tokens;
    for (const DispatchRank& rank : world_.routing.ranks) num_tokens.push_back(rank.num_tokens);
    compare_values("channel_prefix_matrix", matrices.channel_prefix_matrix,
                   plan::channel_prefix_matrix(route, ranks, channels));
    compare_values("recv_channel_prefix_matrix", matrices.recv_channel_prefix_matrix,
                   plan::recv_channel_prefix_matrix(expected_.recv_src_idx, expected_counts(), buffer_.rank(),
                                                    num_tokens, channels));
    compare_values("send_head", matrices.send_head, plan::send_head(route, ranks, channels));
    compare_values("rank_prefix_matrix", matrices.rank_prefix_matrix, plan::rank_prefix_matrix(expected_counts()));
    compare_flags(matrices.is_token_in_rank);
  }

  DispatchOutput dispatch_again(const DispatchHandle& handle) {
    const CachedPart& part = *world_.cached;
    const DispatchRank& again = part.world.ranks[rank_];
    CachedDispatchInput input;
    input.x = make_rows(part.x, again.x, draw_row_placement());
    input.x_scales = make_scales(part.scales, again.scales);
    input.handle = handle;
    DispatchOutput output = buffer_.dispatch(input, draw_options());
    output.event.wait();
    const std::int64_t rows = world_.num_recv_rows(buffer_.rank());
    differences_.compare_rows("cached recv_x", output.recv_x, part.x, rows, part.expected[rank_].recv_x);
    check_scales(output, part.scales, rows, part.expected[rank_]);
    differences_.compare("presence of recv_topk_idx after a cached dispatch", output.recv_topk_idx.has_value(), false);
    differences_.compare("num_recv_tokens_per_expert", output.num_recv_tokens_per_expert, {});
    return output;
  }

  /// Rows in the place that the world asks for; those that were not received hold rubbish.
  Tensor make_combine_x(const DispatchHandle& handle, const Tensor& received) {
    const CombinePart& part = *world_.combine;
    if (part.source == CombineSource::kReceived) return received;
    std::vector<std::byte> rows = part.world.ranks[rank_].x;
    rows.resize(static_cast<std::size_t>(handle.num_recv_rows()) * part.x.row_bytes(), std::byte{0xFF});
    if (part.source == CombineSource::kElsewhere) return make_rows(part.x, rows, draw_row_placement());
    Tensor tensor = buffer_.combine_input(handle, part.x.columns, part.x.dtype);
    differences_.compare_rows("combine_input", tensor, part.x, handle.num_recv_rows(), {});
    if (!rows.empty()) std::memcpy(tensor.data(), rows.data(), rows.size());
    return tensor;
  }

  void combine(const DispatchHandle& handle, const Tensor& received) {
    const CombinePart& part = *world_.combine;
    const CombineRank& rank = part.world.ranks[rank_];
    CombineInput input;
    input.x = make_combine_x(handle, received);
    input.handle = handle;
    if (part.world.num_topk > 0) {
      std::vector<float> weights = rank.topk_weights;
      weights.resize(static_cast<std::size_t>(handle.num_recv_rows() * part.world.num_topk), 1e30F);
      input.topk_weights = make_matrix<float>(DataType::kFloat32, part.world.num_topk, weights);
    }
    if (has_bias(&CombineRank::bias_0)) input.bias_0 = make_rows(part.x, rank.bias_0, draw_row_placement());
    if (has_bias(&CombineRank::bias_1)) input.bias_1 = make_rows(part.x, rank.bias_1, draw_row_placement());
    const CombinedRank& expected = part.expected[rank_];
    if (draw_.chance(30)) input.out = make_rows(part.x, std::vector<std::byte>(expected.combined_x.size()));
    const CombineOutput output = buffer_.combine(input, draw_options());
    input = {};
    output.event.wait();
    differences_.compare_rows("combined_x", output.combined_x, part.x, input_.num_tokens, expected.combined_x);
    differences_.compare("presence of combined_topk_weights", output.combined_topk_weights.has_value(),
                         part.world.num_topk > 0);
    if (!output.combined_topk_weights) return;
    differences_.compare_rows("combined_topk_weights", *output.combined_topk_weights,
                              {DataType::kFloat32, part.world.num_topk}, input_.num_tokens,
                              bytes_of(expected.combined_topk_weights));
  }

  /// On any rank: a rank without tokens has the empty bias that the others have rows of.
  bool has_bias(std::vector<std::byte> CombineRank::*bias) const {
    return std::ranges::any_of(world_.combine->world.ranks,
                               [&](const CombineRank& rank) { return !(rank.*bias).empty(); });
  }

  void compare_values(const std::string& name, const Tensor& got, const std::vector<std::int32_t>& expected) {
    if (got.dtype() != DataType::kInt32 || got.num_elements() != static_cast<std::int64_t>(expected.size())) {
      differences_.add(name + " is " + got.description());
      return;
    }
    differences_.compare(
        name, std::ranges::equal(std::span(got.data_as<const std::int32_t>(), expected.size()), expected), true);
  }

  void compare_flags(const Tensor& got) {
    differences_.compare_rows("is_token_in_rank", got, {DataType::kBool, buffer_.num_ranks()}, input_.num_tokens,
                              bytes_of(world_.routed[rank_].is_token_in_rank));
  }

  Buffer& buffer_;
  const RandomWorld& world_;
  std::size_t rank_;
  Draw draw_;
  const DispatchRank& input_;
  const DispatchedRank& expected_;
  Differences differences_;
};

/// An asynchronous operation may let go of its tensors just after its event.
bool becomes_free(const Buffer& buffer) {
  using Clock = std::chrono::steady_clock;
  const auto end = Clock::now() + std::chrono::seconds(5);
  while (buffer.arena_bytes_free() != buffer.arena_bytes_total()) {
    if (Clock::now() >= end) return false;
    std::this_thread::yield();
  }
  return true;
}

}  // namespace

BufferOptions buffer_options_for(int num_ranks) {
  BufferOptions options;
  options.arena_bytes = num_ranks > kMaxSmallWorldRanks ? kLargeWorldArenaBytes : kWorldArenaBytes;
  options.timeout = Milliseconds{30'000};
  return options;
}

std::vector<std::string> run_world(Buffer& buffer, const RandomWorld& world) {
  std::vector<std::string> result;
  {
    RankRun run(buffer, world);
    run.run();
    result = run.differences();
  }
  if (!becomes_free(buffer)) result.emplace_back("the arena is not as empty as before");
  return result;
}

}  // namespace crossdock::testing
