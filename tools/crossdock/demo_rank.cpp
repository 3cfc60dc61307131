#include "crossdock/demo_rank.hpp"

#include <algorithm>
#include <vector>

#include "base/error.hpp"
#include "crossdock/demo_share.hpp"
#include "crossdock/expert_network.hpp"

namespace crossdock::tool {

namespace {

class DemoRank {
 public:
  DemoRank(const MoeLayer& layer, const DemoRankOptions& options, const DemoShared& shared,
           const std::shared_ptr<Bootstrap>& bootstrap)
      : layer_(layer),
        options_(options),
        shared_(shared),
        rank_(bootstrap->rank()),
        share_(layer, shared, rank_),
        buffer_(bootstrap, make_buffer_options()),
        experts_(buffer_.local_experts(layer.num_experts)),
        network_(layer, experts_) {}

  void run() {
    const DispatchInput input = make_input();
    for (int pass = 0; pass < options_.passes; ++pass) run_pass(input);
    share_.enter(DemoStage::kDone);
  }

 private:
  [[nodiscard]] BufferOptions make_buffer_options() const {
    ArenaSizeArgs args;
    args.num_recv_tokens = layer_.num_tokens;  // the most that can come: every token of every rank
    args.row_bytes = layer_.hidden * 2;
    args.num_topk = layer_.num_topk;
    args.combine_row_bytes = layer_.hidden * static_cast<std::int64_t>(size_of(options_.combine_dtype));
    BufferOptions options;
    options.arena_bytes = get_arena_size_hint(args);
    options.max_experts = layer_.num_experts;
    options.timeout = options_.timeout;
    options.setup_timeout = options_.timeout;
    return options;
  }

  [[nodiscard]] DispatchInput make_input() const {
    DispatchInput input;
    input.num_experts = layer_.num_experts;
    input.x = share_.x();
    input.topk_idx = share_.topk_idx();
    input.topk_weights = share_.topk_weights();
    return input;
  }

  void run_pass(const DispatchInput& input) {
    DemoTimes& times = share_.times();
    Stopwatch watch;
    share_.enter(DemoStage::kDispatching);
    const DispatchOutput output = buffer_.dispatch(input);
    times.dispatch_us = watch.lap_us();
    times.dispatch = buffer_.last_phase_times();

    share_.enter(DemoStage::kComputing);
    CombineInput combine_input;
    combine_input.handle = output.handle;
    combine_input.x = run_experts(output);
    times.experts_us = watch.lap_us();

    share_.enter(DemoStage::kCombining);
    const CombineOutput combined = buffer_.combine(combine_input);
    times.combine_us = watch.lap_us();
    times.combine = buffer_.last_phase_times();
    record(output, combined);
  }

  Tensor run_experts(const DispatchOutput& output) {
    answers_.resize(static_cast<std::size_t>(output.recv_x.num_elements()));
    network_.run(output.recv_x, *output.recv_topk_idx, *output.recv_topk_weights, answers_);
    Tensor result = buffer_.combine_input(output.handle, layer_.hidden, options_.combine_dtype);
    if (options_.combine_dtype == DataType::kFloat32) {
      std::copy(answers_.begin(), answers_.end(), result.data_as<float>());
    } else {
      std::transform(answers_.begin(), answers_.end(), result.data_as<Bfloat16>(), to_bfloat16);
    }
    return result;
  }

  void record(const DispatchOutput& output, const CombineOutput& combined) const {
    const auto ranks = static_cast<std::size_t>(shared_.num_ranks);
    const auto mine = static_cast<std::size_t>(rank_);
    const Tensor prefix_matrix = output.handle.rank_prefix_matrix();
    const auto* prefix = prefix_matrix.data_as<std::int32_t>();
    for (std::size_t source = 0; source < ranks; ++source) {
      const std::int32_t before = source == 0 ? 0 : prefix[(source - 1) * ranks + mine];
      shared_.rows[source * ranks + mine] = prefix[source * ranks + mine] - before;
    }
    for (std::size_t i = 0; i < output.num_recv_tokens_per_expert.size(); ++i) {
      shared_.expert_load[static_cast<std::size_t>(experts_.begin) + i] = output.num_recv_tokens_per_expert[i];
    }
    share_.write_result(combined.combined_x);
  }

  const MoeLayer& layer_;
  const DemoRankOptions& options_;
  const DemoShared& shared_;
  int rank_;
  DemoShare share_;
  Buffer buffer_;
  Buffer::ExpertRange experts_;
  ExpertNetwork network_;
  std::vector<float> answers_;
};

}  // namespace

void run_demo_rank(const MoeLayer& layer, const DemoRankOptions& options, const DemoShared& shared,
                   const std::shared_ptr<Bootstrap>& bootstrap) {
  DemoRank(layer, options, shared, bootstrap).run();
}

}  // namespace crossdock::tool
