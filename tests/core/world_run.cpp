#include "core/world_run.hpp"

#include <algorithm>
#include <chrono>
#include <thread>

#include "core/world_checks.hpp"
#include "support/draw.hpp"
#include "support/world_tensor.hpp"

namespace crossdock::testing {

namespace {

using reference::CombineRank;
using reference::DispatchRank;

/// What one rank does in one world. Choices that ranks need not share are drawn for each rank by itself.
class RankRun {
 public:
  RankRun(Buffer& buffer, const RandomWorld& world, const RandomWorld& expected, const TensorPlace& place)
      : buffer_(buffer),
        world_(world),
        expected_(expected),
        place_(place),
        rank_(static_cast<std::size_t>(buffer.rank())),
        input_(world.routing.ranks[rank_]),
        draw_(world.seed * 1000 + rank_),
        layout_checks_(world, buffer.rank(), place),
        checks_(expected, buffer.rank(), place) {}

  void run() {
    std::vector<DispatchOutput> outputs;
    outputs.reserve(static_cast<std::size_t>(world_.num_dispatches) + 1);
    for (int i = 0; i < world_.num_dispatches; ++i) outputs.push_back(dispatch());
    for (const DispatchOutput& output : outputs) {
      await(output.event);
      checks_.check(output);
    }
    checks_.check(outputs.front().handle, static_cast<int>(draw_.between(1, 20)));
    if (world_.cached) outputs.push_back(dispatch_again(outputs.front().handle));
    if (!expected_.combine) return;
    // The youngest handle first; all give the same, also after other operations have come between.
    for (std::size_t i = outputs.size(); i-- > 0;) combine(outputs[i].handle, outputs.front().recv_x);
    checks_.check(outputs.front());
  }

  [[nodiscard]] std::vector<std::string> differences() const {
    std::vector<std::string> result = layout_checks_.differences();
    result.insert(result.end(), checks_.differences().begin(), checks_.differences().end());
    return result;
  }

 private:
  OperationOptions draw_options() {
    OperationOptions options;
    options.stream = place_.stream();
    if (draw_.chance(50)) return options;
    if (draw_.chance(30)) {
      options.completion = Completion::kStream;
      return options;
    }
    options.completion = Completion::kAsynchronous;
    if (draw_.chance(50)) options.previous_event = buffer_.capture(options.stream);
    if (options.previous_event && draw_.chance(50)) options.allocation = Allocation::kCommunicationStream;
    return options;
  }

  Tensor make_x(const MatrixShape& shape, const std::vector<std::byte>& rows) {
    return place_.place(make_rows(shape, rows, draw_.one_of({RowPlacement::kPacked, RowPlacement::kPadded})));
  }

  std::optional<Tensor> make_scales(const MatrixShape& shape, const std::vector<std::byte>& scales) {
    if (shape.columns == 0) return std::nullopt;
    return place_.place(make_rows(
        shape, scales, draw_.one_of({RowPlacement::kPacked, RowPlacement::kPadded, RowPlacement::kTransposed})));
  }

  Tensor make_ids() const {
    if (world_.id_dtype == DataType::kInt64) {
      return place_.place(make_matrix<std::int64_t>(DataType::kInt64, world_.routing.num_topk, input_.topk_idx));
    }
    const std::vector<std::int32_t> ids(input_.topk_idx.begin(), input_.topk_idx.end());
    return place_.place(make_matrix<std::int32_t>(DataType::kInt32, world_.routing.num_topk, ids));
  }

  DispatchLayout make_layout() {
    const OperationOptions options = draw_options();
    DispatchLayout layout = buffer_.get_dispatch_layout(make_ids(), world_.num_experts, options);
    place_.synchronize();
    layout_checks_.check(layout);
    return layout;
  }

  DispatchOutput dispatch() {
    DispatchInput input;
    input.x = make_x(world_.x, input_.x);
    input.x_scales = make_scales(world_.scales, input_.scales);
    if (world_.with_topk) {
      input.topk_idx = make_ids();
      input.topk_weights =
          place_.place(make_matrix<float>(DataType::kFloat32, world_.routing.num_topk, input_.topk_weights));
    }
    if (!world_.with_topk || draw_.chance(50)) input.layout = make_layout();
    if (!input.layout || draw_.chance(50)) input.num_experts = world_.num_experts;
    input.expert_alignment = world_.expert_alignment;
    input.expand = world_.expand;
    input.num_worst_tokens = world_.num_worst_tokens;
    if (draw_.chance(10)) input.config = get_dispatch_config(buffer_.num_ranks());
    return buffer_.dispatch(input, draw_options());
  }

  DispatchOutput dispatch_again(const DispatchHandle& handle) {
    const DispatchRank& again = world_.cached->world.ranks[rank_];
    CachedDispatchInput input;
    input.x = make_x(world_.cached->x, again.x);
    input.x_scales = make_scales(world_.cached->scales, again.scales);
    input.handle = handle;
    DispatchOutput output = buffer_.dispatch(input, draw_options());
    await(output.event);
    checks_.check_cached(output);
    return output;
  }

  /// Rows in the place that the world asks for; those that were not received hold rubbish.
  Tensor make_combine_x(const DispatchHandle& handle, const Tensor& received) {
    const CombinePart& part = *expected_.combine;
    if (part.source == CombineSource::kReceived) return received;
    std::vector<std::byte> rows = part.world.ranks[rank_].x;
    rows.resize(static_cast<std::size_t>(handle.num_recv_rows()) * part.x.row_bytes(), std::byte{0xFF});
    if (part.source == CombineSource::kElsewhere) return make_x(part.x, rows);
    Tensor tensor = buffer_.combine_input(handle, part.x.columns, part.x.dtype);
    checks_.check_combine_input(tensor);
    place_.write(tensor, rows);
    return tensor;
  }

  CombineInput make_combine_input(const DispatchHandle& handle, const Tensor& received) {
    const CombinePart& part = *expected_.combine;
    const CombineRank& rank = part.world.ranks[rank_];
    CombineInput input;
    input.x = make_combine_x(handle, received);
    input.handle = handle;
    if (part.world.num_topk > 0) {
      const std::int64_t columns = world_.expand ? 1 : part.world.num_topk;
      std::vector<float> weights = rank.topk_weights;
      weights.resize(static_cast<std::size_t>(handle.num_recv_rows() * columns), 1e30F);
      const Tensor matrix = place_.place(make_matrix<float>(DataType::kFloat32, columns, weights));
      input.topk_weights = world_.expand ? as_vector(matrix) : matrix;
    }
    if (has_bias(&CombineRank::bias_0)) input.bias_0 = make_x(part.x, rank.bias_0);
    if (has_bias(&CombineRank::bias_1)) input.bias_1 = make_x(part.x, rank.bias_1);
    if (draw_.chance(30)) {
      input.out = place_.place(make_rows(part.x, std::vector<std::byte>(part.expected[rank_].combined_x.size())));
    }
    return input;
  }

  void combine(const DispatchHandle& handle, const Tensor& received) {
    CombineInput input = make_combine_input(handle, received);
    const CombineOutput output = buffer_.combine(input, draw_options());
    input = {};  // an operation keeps alive what it still needs
    await(output.event);
    checks_.check(output);
  }

  void await(const Event& event) const {
    event.wait();
    place_.synchronize();
  }

  /// On any rank: one without tokens has an empty bias where others have rows.
  [[nodiscard]] bool has_bias(std::vector<std::byte> CombineRank::*bias) const {
    const std::vector<CombineRank>& ranks = expected_.combine->world.ranks;
    return std::ranges::any_of(ranks, [&](const CombineRank& rank) { return !(rank.*bias).empty(); });
  }

  Buffer& buffer_;
  const RandomWorld& world_;
  const RandomWorld& expected_;
  const TensorPlace& place_;
  std::size_t rank_;
  const DispatchRank& input_;
  Draw draw_;
  WorldChecks layout_checks_;
  WorldChecks checks_;
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

BufferOptions on_device_of(const TensorPlace& place, BufferOptions options) {
  options.device = place.device();
  return options;
}

BufferOptions buffer_options_for(int num_ranks) {
  BufferOptions options;
  options.arena_bytes = num_ranks > kMaxSmallWorldRanks ? kLargeWorldArenaBytes : kWorldArenaBytes;
  options.timeout = Milliseconds{30'000};
  return options;
}

std::vector<std::string> run_world(Buffer& buffer, const RandomWorld& world) { return run_world(buffer, world, world); }

std::vector<std::string> run_world(Buffer& buffer, const RandomWorld& world, const RandomWorld& expected,
                                   const TensorPlace& place) {
  std::vector<std::string> result;
  {
    RankRun run(buffer, world, expected, place);
    run.run();
    result = run.differences();
  }
  if (!becomes_free(buffer)) result.emplace_back("the arena is not as empty as before");
  return result;
}

}  // namespace crossdock::testing
