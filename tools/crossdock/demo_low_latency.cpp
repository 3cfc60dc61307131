#include "crossdock/demo_low_latency.hpp"

#include <algorithm>
#include <vector>

#include "crossdock/demo_share.hpp"
#include "crossdock/expert_network.hpp"
#include "plan/experts.hpp"

namespace crossdock::tool {

namespace {

std::int64_t most_tokens_of_a_rank(const MoeLayer& layer, int num_ranks) {
  return (layer.num_tokens + num_ranks - 1) / num_ranks;
}

class LowLatencyDemoRank {
 public:
  LowLatencyDemoRank(const MoeLayer& layer, const DemoRankOptions& options, const DemoShared& shared,
                     const std::shared_ptr<Bootstrap>& bootstrap)
      : layer_(layer),
        options_(options),
        shared_(shared),
        rank_(bootstrap->rank()),
        max_tokens_(most_tokens_of_a_rank(layer, shared.num_ranks)),
        share_(layer, shared, rank_),
        buffer_(bootstrap, make_buffer_options()),
        experts_(buffer_.local_experts(layer.num_experts)),
        network_(layer, experts_) {}

  void run() {
    for (int pass = 0; pass < options_.passes; ++pass) run_pass();
    share_.enter(DemoStage::kDone);
  }

 private:
  [[nodiscard]] BufferOptions make_buffer_options() const {
    BufferOptions options;
    options.arena_bytes = get_low_latency_rdma_size_hint(static_cast<int>(max_tokens_), layer_.hidden,
                                                         shared_.num_ranks, layer_.num_experts);
    options.max_experts = layer_.num_experts;
    options.timeout = options_.timeout;
    options.setup_timeout = options_.timeout;
    return options;
  }

  void run_pass() {
    Stopwatch watch;
    share_.enter(DemoStage::kDispatching);
    LowLatencyDispatchInput input;
    input.x = share_.x();
    input.topk_idx = share_.topk_idx();
    input.num_max_dispatch_tokens_per_rank = max_tokens_;
    input.num_experts = layer_.num_experts;
    input.format = RowFormat::kBfloat16;
    const LowLatencyDispatchOutput output = buffer_.low_latency_dispatch(input);
    share_.times().dispatch_us = watch.lap_us();

    share_.enter(DemoStage::kComputing);
    LowLatencyCombineInput combine_input;
    combine_input.handle = output.handle;
    combine_input.topk_weights = share_.topk_weights();
    combine_input.x = run_experts(output);
    share_.times().experts_us = watch.lap_us();

    share_.enter(DemoStage::kCombining);
    const LowLatencyCombineOutput combined = buffer_.low_latency_combine(combine_input);
    share_.times().combine_us = watch.lap_us();
    record(output);
    share_.write_result(combined.combined_x);
  }

  Tensor run_experts(const LowLatencyDispatchOutput& output) {
    const auto hidden = static_cast<std::size_t>(layer_.hidden);
    Tensor result = buffer_.next_combine_buffer(output.handle);
    answer_.resize(hidden);
    for (std::size_t expert = 0; expert < static_cast<std::size_t>(experts_.count); ++expert) {
      const auto count = static_cast<std::size_t>(output.packed_recv_count.data_as<std::int32_t>()[expert]);
      const std::size_t first = expert * static_cast<std::size_t>(result.size(1));
      for (std::size_t row = first; row < first + count; ++row) {
        network_.answer(expert, {output.packed_recv_x.data_as<Bfloat16>() + row * hidden, hidden}, answer_);
        std::transform(answer_.begin(), answer_.end(), result.data_as<Bfloat16>() + row * hidden, to_bfloat16);
      }
    }
    return result;
  }

  void record(const LowLatencyDispatchOutput& output) const {
    constexpr std::int64_t kCountBits = 0xFFFF'FFFF;
    const auto ranks = static_cast<std::size_t>(shared_.num_ranks);
    const auto mine = static_cast<std::size_t>(rank_);
    const Tensor ranges = output.handle.packed_recv_layout_range();
    for (std::size_t source = 0; source < ranks; ++source) {
      std::int64_t rows = 0;
      for (std::size_t expert = 0; expert < static_cast<std::size_t>(experts_.count); ++expert) {
        rows += ranges.data_as<std::int64_t>()[expert * ranks + source] & kCountBits;
      }
      shared_.rows[source * ranks + mine] = rows;
    }
    for (std::size_t expert = 0; expert < static_cast<std::size_t>(experts_.count); ++expert) {
      shared_.expert_load[static_cast<std::size_t>(experts_.begin) + expert] =
          output.packed_recv_count.data_as<std::int32_t>()[expert];
    }
  }

  const MoeLayer& layer_;
  const DemoRankOptions& options_;
  const DemoShared& shared_;
  int rank_;
  std::int64_t max_tokens_;
  DemoShare share_;
  Buffer buffer_;
  Buffer::ExpertRange experts_;
  ExpertNetwork network_;
  std::vector<float> answer_;
};

}  // namespace

void run_low_latency_demo_rank(const MoeLayer& layer, const DemoRankOptions& options, const DemoShared& shared,
                               const std::shared_ptr<Bootstrap>& bootstrap) {
  LowLatencyDemoRank(layer, options, shared, bootstrap).run();
}

}  // namespace crossdock::tool
