#include "crossdock/bench_low_latency_cuda.hpp"

#include <array>
#include <optional>
#include <vector>

#include "backend/cuda/timed_graph.hpp"
#include "crossdock/bench_input.hpp"
#include "crossdock/bench_peer.hpp"
#include "crossdock/bench_place.hpp"
#include "crossdock/low_latency_verify.hpp"

namespace crossdock::tool {

namespace {

constexpr int kOperations = 100;  ///< timed in a graph, one after the other
constexpr int kMeetings = 2;      ///< before them: hosts launch their ranks' graphs at different times

class LowLatencyCudaBenchRank {
 public:
  LowLatencyCudaBenchRank(const BenchWorld& world, const BenchShared& shared,
                          const std::shared_ptr<Bootstrap>& bootstrap)
      : world_(world),
        config_(world.config),
        shared_(shared),
        rank_(bootstrap->rank()),
        peer_(config_, shared, rank_),
        place_(config_.device, rank_),
        input_(make_input(make_bench_input(config_, world.routing, world.pattern, rank_))),
        combined_x_(place_.place(allocate_tensor(DataType::kBfloat16, {config_.num_tokens, config_.hidden}))),
        buffer_(bootstrap,
                make_bench_buffer_options(config_, place_.device(), kArenas * low_latency_bench_arena_bytes(config_))),
        experts_(buffer_.local_experts(*config_.num_experts)) {
    if (config_.combine_source == CombineSource::kOutside) {
      const std::int64_t places = config_.num_ranks * config_.num_tokens;
      outside_ = place_.place(allocate_tensor(DataType::kBfloat16, {experts_.count, places, config_.hidden}));
    }
  }

  void run() {
    check_round(ExpertMark::kNone);
    check_round(ExpertMark::kExpert);
    time_operations();
    time_round_trips();
    check_round(ExpertMark::kExpert);
    peer_.finish();
  }

 private:
  static constexpr std::size_t kArenas = 3;  ///< graphs keep their slabs

  LowLatencyDispatchInput make_input(const DispatchInput& tensors) {
    peer_.summary().device = place_.device().index;
    peer_.summary().inputs_bytes = count_bytes(tensors);
    weights_ = place_.place(*tensors.topk_weights);
    LowLatencyDispatchInput input;
    input.x = place_.place(tensors.x);
    input.topk_idx = place_.place(*tensors.topk_idx);
    input.num_max_dispatch_tokens_per_rank = config_.num_tokens;
    input.num_experts = *config_.num_experts;
    input.format = config_.dtype == PayloadType::kFp8 ? RowFormat::kFloat8 : RowFormat::kBfloat16;
    return input;
  }

  LowLatencyCombineInput combine_input(const LowLatencyDispatchOutput& output) {
    LowLatencyCombineInput input;
    input.handle = output.handle;
    input.out = combined_x_;
    input.topk_weights = weights_;
    input.use_logfmt = config_.use_logfmt;
    if (config_.combine_source == CombineSource::kInPlace) {
      input.x = output.packed_recv_x;
    } else {
      input.zero_copy = !outside_;
      input.x = outside_ ? *outside_ : buffer_.next_combine_buffer(output.handle);
    }
    return input;
  }

  /// Compares a dispatch, and the combine of what experts make of it in host memory, with the oracle.
  void check_round(ExpertMark mark) {
    peer_.barrier();
    const LowLatencyDispatchOutput output = buffer_.low_latency_dispatch(input_);
    const PackedTensors received = fetch(PackedTensors::of(output));
    peer_.report(find_packed_mismatch(world_, rank_, received));
    const LowLatencyCombineInput input = combine_input(output);
    const Tensor rows = place_.fetch(input.x);
    answer_packed_rows(config_, received, mark, experts_.begin, rows);
    place_.copy(place_.place(rows), input.x);
    if (config_.use_logfmt && mark == ExpertMark::kNone) {
      peer_.summary().wire_bytes = logfmt_wire_bytes(received.count, rows);
    }
    peer_.barrier();  // copies wait for the device, and others' kernels may wait for this rank
    static_cast<void>(buffer_.low_latency_combine(input));
    peer_.report(find_weighted_mismatch(world_, rank_, mark, place_.fetch(combined_x_)));
    peer_.barrier();
  }

  [[nodiscard]] PackedTensors fetch(const PackedTensors& tensors) const {
    PackedTensors fetched{place_.fetch(tensors.x), std::nullopt, place_.fetch(tensors.count),
                          place_.fetch(tensors.src_info), place_.fetch(tensors.layout_range)};
    if (tensors.scales) {
      const Tensor& scales = *tensors.scales;
      const std::array stored_shape{scales.size(0), scales.size(2), scales.size(1)};
      const Tensor stored =
          place_.fetch(Tensor::own(scales.owner(), scales.data(), scales.dtype(), stored_shape, scales.device()));
      fetched.scales = Tensor::own(stored.owner(), stored.data(), stored.dtype(), scales.shape())
                           .with_strides({scales.stride(0), scales.stride(1), scales.stride(2)});
    }
    return fetched;
  }

  [[nodiscard]] static OperationOptions on(const cuda::TimedGraph& graph) {
    OperationOptions options;
    options.completion = Completion::kStream;
    options.stream = graph.stream();
    return options;
  }

  /// Microseconds of one of kOperations that `queue` puts into a graph, for each launch of it.
  template <typename Queue>
  std::vector<double> time(int launches, const Queue& queue) {
    cuda::TimedGraph graph(place_.device());
    graph.capture([&] {
      for (int i = 0; i < kMeetings; ++i) queue(on(graph));
      graph.mark();
      for (int i = 0; i < kOperations; ++i) queue(on(graph));
      graph.mark();
    });
    std::vector<double> times;
    for (int i = -config_.warmup; i < launches; ++i) {
      peer_.barrier();
      const double time = graph.launch().front() / kOperations;
      if (i >= 0) times.push_back(time);
    }
    peer_.barrier();
    return times;
  }

  void time_operations() {
    const auto dispatches = time(config_.iterations, [&](const OperationOptions& options) {
      static_cast<void>(buffer_.low_latency_dispatch(input_, options));
    });
    const LowLatencyDispatchOutput output = buffer_.low_latency_dispatch(input_);
    LowLatencyCombineInput combined = combine_input(output);
    combined.zero_copy = false;  // all of them read the same rows
    const auto combines = time(config_.iterations, [&](const OperationOptions& options) {
      static_cast<void>(buffer_.low_latency_combine(combined, options));
    });
    for (int i = 0; i < config_.iterations; ++i) {
      const auto index = static_cast<std::size_t>(i);
      shared_.sample(i, rank_).dispatch.end_ns = static_cast<std::int64_t>(1e3 * dispatches[index]);
      shared_.sample(i, rank_).combine.end_ns = static_cast<std::int64_t>(1e3 * combines[index]);
      peer_.count_iteration();
    }
    peer_.barrier();
  }

  void time_round_trips() {
    const auto times = time(BenchShared::kRoundTripBlocks, [&](const OperationOptions& options) {
      const LowLatencyDispatchOutput output = buffer_.low_latency_dispatch(input_, options);
      static_cast<void>(buffer_.low_latency_combine(combine_input(output), options));
    });
    for (int block = 0; block < BenchShared::kRoundTripBlocks; ++block) {
      shared_.round_trip(block, rank_).end_ns =
          static_cast<std::int64_t>(1e3 * times[static_cast<std::size_t>(block)] * config_.iterations);
    }
  }

  const BenchWorld& world_;
  const BenchConfig& config_;
  const BenchShared& shared_;
  int rank_;
  BenchPeer peer_;
  BenchPlace place_;
  Tensor weights_;
  LowLatencyDispatchInput input_;
  Tensor combined_x_;
  std::optional<Tensor> outside_;
  Buffer buffer_;
  Buffer::ExpertRange experts_;
};

}  // namespace

void run_low_latency_cuda_bench_rank(const BenchWorld& world, const BenchShared& shared,
                                     const std::shared_ptr<Bootstrap>& bootstrap) {
  try {
    LowLatencyCudaBenchRank(world, shared, bootstrap).run();
  } catch (...) {
    shared.barrier[0].break_off();
    throw;
  }
}

}  // namespace crossdock::tool
