#include "crossdock/bench_low_latency.hpp"

#include <cstring>
#include <optional>

#include "crossdock/allocation_counter.hpp"
#include "crossdock/bench_input.hpp"
#include "crossdock/bench_peer.hpp"
#include "crossdock/low_latency_verify.hpp"

namespace crossdock::tool {

namespace {

class LowLatencyBenchRank {
 public:
  LowLatencyBenchRank(const BenchWorld& world, const BenchShared& shared, const std::shared_ptr<Bootstrap>& bootstrap)
      : world_(world),
        config_(world.config),
        shared_(shared),
        rank_(bootstrap->rank()),
        peer_(config_, shared, rank_),
        tensors_(make_bench_input(config_, world.routing, world.pattern, rank_)),
        input_(make_input()),
        combined_x_(allocate_tensor(DataType::kBfloat16, {config_.num_tokens, config_.hidden})),
        buffer_(bootstrap, make_bench_buffer_options(config_, Device{}, low_latency_bench_arena_bytes(config_))),
        experts_(buffer_.local_experts(*config_.num_experts)) {
    std::memset(combined_x_.data(), 0, combined_x_.num_bytes());  // its pages exist before the first timing
    if (config_.combine_source == CombineSource::kOutside) {
      const std::int64_t places = config_.num_ranks * config_.num_tokens;
      outside_ = allocate_tensor(DataType::kBfloat16, {experts_.count, places, config_.hidden});
    }
  }

  void run() {
    peer_.summary().inputs_bytes = count_bytes(tensors_);
    peer_.summary().outputs_bytes = static_cast<std::int64_t>(combined_x_.num_bytes());
    for (int i = -config_.warmup; i < config_.iterations; ++i) {
      IterationSample discarded;
      run_round(i < 0 ? discarded : shared_.sample(i, rank_), ExpertMark::kNone, i + 1 == config_.iterations);
      peer_.count_iteration();
    }
    run_blocks();
    IterationSample untimed;
    run_round(untimed, ExpertMark::kExpert, true);
    peer_.finish();
  }

 private:
  [[nodiscard]] LowLatencyDispatchInput make_input() const {
    LowLatencyDispatchInput input;
    input.x = tensors_.x;
    input.topk_idx = *tensors_.topk_idx;
    input.num_max_dispatch_tokens_per_rank = config_.num_tokens;
    input.num_experts = *config_.num_experts;
    input.format = config_.dtype == PayloadType::kFp8 ? RowFormat::kFloat8 : RowFormat::kBfloat16;
    return input;
  }

  /// One dispatch and one combine. Everything that it received is freed when it returns.
  void run_round(IterationSample& sample, ExpertMark mark, bool verify) {
    peer_.barrier();
    sample.dispatch.start_ns = now_ns();
    const LowLatencyDispatchOutput output = buffer_.low_latency_dispatch(input_);
    sample.dispatch.end_ns = now_ns();

    if (verify) peer_.report(find_packed_mismatch(world_, rank_, PackedTensors::of(output)));
    const LowLatencyCombineInput combine_input = answer(output, mark);
    peer_.barrier();
    sample.combine.start_ns = now_ns();
    const LowLatencyCombineOutput combined = buffer_.low_latency_combine(combine_input);
    sample.combine.end_ns = now_ns();
    if (verify) {
      if (mark == ExpertMark::kNone) {
        peer_.measure_memory(count_bytes(output));
        if (config_.use_logfmt)
          peer_.summary().wire_bytes = logfmt_wire_bytes(output.packed_recv_count, combine_input.x);
      }
      peer_.report(find_weighted_mismatch(world_, rank_, mark, combined.combined_x));
    }
  }

  void run_blocks() {
    for (int i = 0; i < config_.warmup; ++i) run_loop();
    const std::int64_t allocations_before = count_allocations();
    for (int block = 0; block < BenchShared::kRoundTripBlocks; ++block) {
      OperationSample& sample = shared_.round_trip(block, rank_);
      peer_.barrier();
      sample.start_ns = now_ns();
      for (int i = 0; i < config_.iterations; ++i) run_loop();
      sample.end_ns = now_ns();
    }
    peer_.summary().loop_allocations = count_allocations() - allocations_before;
    peer_.report(find_weighted_mismatch(world_, rank_, ExpertMark::kNone, combined_x_));
  }

  void run_loop() {
    const LowLatencyDispatchOutput output = buffer_.low_latency_dispatch(input_);
    static_cast<void>(buffer_.low_latency_combine(answer(output, ExpertMark::kNone)));
  }

  /// What an expert answers that does nothing but (perhaps) mark the rows.
  LowLatencyCombineInput answer(const LowLatencyDispatchOutput& output, ExpertMark mark) {
    LowLatencyCombineInput input;
    input.handle = output.handle;
    input.out = combined_x_;
    input.topk_weights = *tensors_.topk_weights;
    input.use_logfmt = config_.use_logfmt;
    if (config_.combine_source == CombineSource::kInPlace) {
      input.x = output.packed_recv_x;
    } else {
      input.zero_copy = !outside_;
      input.x = outside_ ? *outside_ : buffer_.next_combine_buffer(output.handle);
    }
    answer_packed_rows(config_, PackedTensors::of(output), mark, experts_.begin, input.x);
    return input;
  }

  const BenchWorld& world_;
  const BenchConfig& config_;
  const BenchShared& shared_;
  int rank_;
  BenchPeer peer_;
  DispatchInput tensors_;
  LowLatencyDispatchInput input_;
  Tensor combined_x_;
  std::optional<Tensor> outside_;
  Buffer buffer_;
  Buffer::ExpertRange experts_;
};

}  // namespace

void run_low_latency_bench_rank(const BenchWorld& world, const BenchShared& shared,
                                const std::shared_ptr<Bootstrap>& bootstrap) {
  try {
    LowLatencyBenchRank(world, shared, bootstrap).run();
  } catch (...) {
    shared.barrier[0].break_off();
    throw;
  }
}

}  // namespace crossdock::tool
