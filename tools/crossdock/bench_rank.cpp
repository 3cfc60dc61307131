#include "crossdock/bench_rank.hpp"

#include <cstring>
#include <optional>

#include "crossdock/bench_input.hpp"
#include "crossdock/bench_peer.hpp"

namespace crossdock::tool {

namespace {

class BenchRank {
 public:
  BenchRank(const BenchWorld& world, std::int64_t num_recv_rows, const BenchShared& shared,
            const std::shared_ptr<Bootstrap>& bootstrap)
      : world_(world),
        config_(world.config),
        shared_(shared),
        rank_(bootstrap->rank()),
        peer_(config_, shared, rank_),
        input_(make_bench_input(config_, world.routing, world.pattern, rank_)),
        combined_x_(allocate_tensor(DataType::kBfloat16, {config_.num_tokens, config_.hidden})),
        buffer_(bootstrap, make_bench_buffer_options(config_, bench_arena_bytes(config_, num_recv_rows))) {
    std::memset(combined_x_.data(), 0, combined_x_.num_bytes());  // its pages exist before the first timing
  }

  void run() {
    RankSummary& summary = peer_.summary();
    summary.inputs_bytes = count_bytes(input_);
    summary.outputs_bytes = static_cast<std::int64_t>(combined_x_.num_bytes());
    for (int i = -config_.warmup; i < config_.iterations; ++i) {
      IterationSample discarded;
      run_round(i < 0 ? discarded : shared_.sample(i, rank_), ExpertMark::kNone, i + 1 == config_.iterations);
      peer_.count_iteration();
    }
    IterationSample untimed;
    run_round(untimed, ExpertMark::kRank, true);
    peer_.finish();
  }

 private:
  /// One dispatch and one combine. Everything that it received is freed when it returns.
  void run_round(IterationSample& sample, ExpertMark mark, bool verify) {
    peer_.barrier();
    sample.dispatch.start_ns = now_ns();
    const DispatchOutput output = buffer_.dispatch(input_);
    sample.dispatch.end_ns = now_ns();
    sample.dispatch.parts = buffer_.last_phase_times();

    const CombineInput combine_input = make_combine_input(output, mark);
    peer_.barrier();
    sample.combine.start_ns = now_ns();
    const CombineOutput combined = buffer_.combine(combine_input);
    sample.combine.end_ns = now_ns();
    sample.combine.parts = buffer_.last_phase_times();
    if (verify) {
      if (mark == ExpertMark::kNone) {
        peer_.measure_memory(count_bytes(output));
        peer_.report(find_dispatch_mismatch(world_, rank_, ReceivedTensors::of(output)));
      }
      peer_.report(find_combine_mismatch(world_, rank_, mark, combined.combined_x));
    }
  }

  /// The rows that an expert answers which does nothing but (perhaps) mark them.
  CombineInput make_combine_input(const DispatchOutput& output, ExpertMark mark) {
    CombineInput input;
    input.handle = output.handle;
    input.out = combined_x_;
    input.x = place_rows(output);
    const auto hidden = static_cast<std::size_t>(config_.hidden);
    if (mark == ExpertMark::kRank) {
      auto* rows = input.x.data_as<Bfloat16>();
      for (std::int64_t row = 0; row < input.x.size(0); ++row) {
        mark_row({rows + static_cast<std::size_t>(row) * hidden, hidden}, rank_);
      }
    }
    return input;
  }

  Tensor place_rows(const DispatchOutput& output) {
    if (config_.combine_source == CombineSource::kInPlace) return output.recv_x;
    if (config_.combine_source == CombineSource::kArena) {
      Tensor rows = buffer_.combine_input(output.handle, config_.hidden);
      copy_rows(output, rows);
      return rows;
    }
    if (!outside_) outside_ = allocate_tensor(DataType::kBfloat16, {output.recv_x.size(0), config_.hidden});
    copy_rows(output, *outside_);
    return *outside_;
  }

  void copy_rows(const DispatchOutput& output, const Tensor& out) const {
    if (config_.dtype == PayloadType::kBf16) {
      if (out.num_bytes() > 0) std::memcpy(out.data(), output.recv_x.data(), out.num_bytes());
      return;
    }
    const auto hidden = static_cast<std::size_t>(config_.hidden);
    const auto num_scales = static_cast<std::size_t>(config_.num_scales());
    for (std::size_t row = 0; row < static_cast<std::size_t>(out.size(0)); ++row) {
      dequantize({output.recv_x.data_as<std::uint8_t>() + row * hidden, hidden},
                 {output.recv_x_scales->data_as<float>() + row * num_scales, num_scales},
                 {out.data_as<Bfloat16>() + row * hidden, hidden});
    }
  }

  const BenchWorld& world_;
  const BenchConfig& config_;
  const BenchShared& shared_;
  int rank_;
  BenchPeer peer_;
  DispatchInput input_;
  Tensor combined_x_;
  std::optional<Tensor> outside_;
  Buffer buffer_;
};

}  // namespace

void run_bench_rank(const BenchWorld& world, std::int64_t num_recv_rows, const BenchShared& shared,
                    const std::shared_ptr<Bootstrap>& bootstrap) {
  try {
    BenchRank(world, num_recv_rows, shared, bootstrap).run();
  } catch (...) {
    shared.barrier[0].break_off();
    throw;
  }
}

}  // namespace crossdock::tool
