#include "crossdock/bench_rank.hpp"

#include <cstring>
#include <optional>

#include "crossdock/bench_input.hpp"
#include "crossdock/bench_peer.hpp"
#include "crossdock/bench_place.hpp"

namespace crossdock::tool {

namespace {

/// What the expert answers to the rows of one dispatch.
struct Answers {
  ExpertMark mark = ExpertMark::kNone;
  bool are_checked = false;  ///< if not, nobody looks at their values
};

class BenchRank {
 public:
  BenchRank(const BenchWorld& world, std::int64_t num_recv_rows, const BenchShared& shared,
            const std::shared_ptr<Bootstrap>& bootstrap)
      : world_(world),
        config_(world.config),
        shared_(shared),
        rank_(bootstrap->rank()),
        peer_(config_, shared, rank_),
        place_(config_.device, rank_),
        input_(place_input(make_bench_input(config_, world.routing, world.pattern, rank_))),
        combined_x_(make_output()),
        buffer_(bootstrap,
                make_bench_buffer_options(config_, place_.device(), bench_arena_bytes(config_, num_recv_rows))) {
    if (config_.num_sms > 0) {
      input_.config = get_dispatch_config(config_.num_ranks, config_.num_sms);
      combine_config_ = get_combine_config(config_.num_ranks, config_.num_sms);
    }
    if (config_.worst_case) input_.num_worst_tokens = num_recv_rows;
    input_.expand = config_.expand.has_value();
    input_.expert_alignment = config_.expand.value_or(1);
  }

  void run() {
    RankSummary& summary = peer_.summary();
    summary.device = place_.device().index;
    summary.inputs_bytes = count_bytes(input_);
    summary.outputs_bytes = static_cast<std::int64_t>(combined_x_.num_bytes());
    if (config_.cached) handle_ = buffer_.dispatch(input_).handle;
    for (int i = -config_.warmup; i < config_.iterations; ++i) {
      IterationSample discarded;
      run_round(i < 0 ? discarded : shared_.sample(i, rank_), {ExpertMark::kNone, i + 1 == config_.iterations});
      peer_.count_iteration();
    }
    IterationSample untimed;
    run_round(untimed, {ExpertMark::kRank, true});
    peer_.finish();
  }

 private:
  DispatchInput place_input(DispatchInput input) const {
    input.x = place_.place(input.x);
    input.x_scales = place_.place(input.x_scales);
    input.topk_idx = place_.place(input.topk_idx);
    input.topk_weights = place_.place(input.topk_weights);
    return input;
  }

  /// Its pages exist before the first timing.
  [[nodiscard]] Tensor make_output() const {
    const Tensor zeros = allocate_tensor(DataType::kBfloat16, {config_.num_tokens, config_.hidden});
    std::memset(zeros.data(), 0, zeros.num_bytes());
    return place_.place(zeros);
  }

  DispatchOutput dispatch() {
    if (!handle_.defined()) return buffer_.dispatch(input_);
    CachedDispatchInput input;
    input.x = input_.x;
    input.x_scales = input_.x_scales;
    input.handle = handle_;
    input.config = input_.config;
    return buffer_.dispatch(input);
  }

  /// One dispatch and one combine. Everything that it received is freed when it returns.
  void run_round(IterationSample& sample, const Answers& answers) {
    peer_.barrier();
    sample.dispatch.start_ns = now_ns();
    const DispatchOutput output = dispatch();
    sample.dispatch.end_ns = now_ns();
    sample.dispatch.parts = buffer_.last_phase_times();

    const CombineInput combine_input = make_combine_input(output, answers);
    peer_.barrier();
    sample.combine.start_ns = now_ns();
    const CombineOutput combined = buffer_.combine(combine_input);
    sample.combine.end_ns = now_ns();
    sample.combine.parts = buffer_.last_phase_times();
    if (!answers.are_checked) return;
    if (answers.mark == ExpertMark::kNone) {
      peer_.measure_memory(count_bytes(output));
      if (!config_.cached) check(output);
    }
    peer_.report(find_combine_mismatch(world_, rank_, answers.mark, place_.fetch(combined.combined_x)));
  }

  void check(const DispatchOutput& output) const {
    const ReceivedTensors received = ReceivedTensors::of(output);
    peer_.report(find_dispatch_mismatch(
        world_, rank_,
        {place_.fetch(received.recv_x), place_.fetch(received.recv_x_scales), place_.fetch(received.recv_topk_idx),
         place_.fetch(received.recv_topk_weights), place_.fetch(received.recv_src_idx)}));
  }

  /// The rows that an expert answers which does nothing but (perhaps) mark them.
  CombineInput make_combine_input(const DispatchOutput& output, const Answers& answers) {
    CombineInput input;
    input.handle = output.handle;
    input.out = combined_x_;
    input.config = combine_config_;
    input.x = place_rows(output, answers);
    if (answers.mark != ExpertMark::kRank) return input;
    const Tensor marked = place_.fetch(input.x);
    const auto hidden = static_cast<std::size_t>(config_.hidden);
    auto* rows = marked.data_as<Bfloat16>();
    for (std::int64_t row = 0; row < marked.size(0); ++row) {
      mark_row({rows + static_cast<std::size_t>(row) * hidden, hidden}, rank_);
    }
    if (!place_.is_host()) place_.copy(place_.place(marked), input.x);
    return input;
  }

  Tensor place_rows(const DispatchOutput& output, const Answers& answers) {
    if (config_.combine_source == CombineSource::kInPlace) return output.recv_x;
    if (config_.combine_source == CombineSource::kArena) {
      Tensor rows = buffer_.combine_input(output.handle, config_.hidden);
      copy_rows(output, rows, answers);
      return rows;
    }
    if (!outside_) {
      outside_ = place_.place(allocate_tensor(DataType::kBfloat16, {output.recv_x.size(0), config_.hidden}));
    }
    copy_rows(output, *outside_, answers);
    return *outside_;
  }

  void copy_rows(const DispatchOutput& output, const Tensor& out, const Answers& answers) const {
    if (config_.dtype == PayloadType::kBf16) {
      place_.copy(output.recv_x, out);
    } else if (place_.is_host()) {
      dequantize_rows(output.recv_x, *output.recv_x_scales, out);
    } else if (answers.are_checked) {  // by way of the host, which takes long
      const Tensor rows = allocate_tensor(DataType::kBfloat16, {out.size(0), out.size(1)});
      dequantize_rows(place_.fetch(output.recv_x), place_.fetch(*output.recv_x_scales), rows);
      place_.copy(place_.place(rows), out);
    }
  }

  void dequantize_rows(const Tensor& x, const Tensor& scales, const Tensor& out) const {
    const auto hidden = static_cast<std::size_t>(config_.hidden);
    const auto num_scales = static_cast<std::size_t>(config_.num_scales());
    for (std::size_t row = 0; row < static_cast<std::size_t>(out.size(0)); ++row) {
      dequantize({x.data_as<std::uint8_t>() + row * hidden, hidden},
                 {scales.data_as<float>() + row * num_scales, num_scales},
                 {out.data_as<Bfloat16>() + row * hidden, hidden});
    }
  }

  const BenchWorld& world_;
  const BenchConfig& config_;
  const BenchShared& shared_;
  int rank_;
  BenchPeer peer_;
  BenchPlace place_;
  DispatchInput input_;
  std::optional<Config> combine_config_;
  Tensor combined_x_;
  std::optional<Tensor> outside_;
  Buffer buffer_;
  DispatchHandle handle_;  ///< of the first dispatch, if the others repeat its routing
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
