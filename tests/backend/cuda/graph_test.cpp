// Operations captured in a CUDA graph, which is launched again and again with other routing.
#include <cuda_runtime_api.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstring>
#include <iterator>
#include <memory>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

#include "backend/cuda/captured_graph.hpp"
#include "backend/cuda/cuda_check.hpp"
#include "backend/cuda/cuda_place.hpp"
#include "backend/cuda/device_probe.hpp"
#include "backend/cuda/low_latency_worlds.hpp"
#include "core/low_latency_run.hpp"
#include "core/world_run.hpp"
#include "support/random_world.hpp"
#include "support/ranks.hpp"

namespace crossdock::testing {
namespace {

constexpr int kRanks = 4;
constexpr int kWorlds = 12;  ///< of equal shape, with other rows, ids and weights
constexpr int kLayers = 3;
constexpr Milliseconds kPatience{30'000};

std::vector<LowLatencyWorld> worlds_of_one_shape(reference::low_latency::WireFormat format) {
  constexpr int kExponents = 6;
  const LowLatencyBounds bounds{.num_ranks = kRanks, .all_tokens = true};
  std::vector<LowLatencyWorld> worlds;
  LowLatencyWorld first = make_low_latency_world(11, bounds);
  first.dispatch.format = reference::low_latency::RowFormat::kBfloat16;
  first.combine.format = format;
  for (auto& rank : first.dispatch.ranks) {  // LogFMT leaves rows with magnitudes of 1 and more as they are
    for (Bfloat16& value : rank.x) value = to_bfloat16(std::ldexp(to_float(value), -kExponents));
  }
  for (int i = 0; i < kWorlds; ++i) {
    LowLatencyWorld& world = worlds.emplace_back(first);
    world.seed += static_cast<std::uint64_t>(i);
    for (auto& rank : world.dispatch.ranks) {
      for (std::int64_t& id : rank.topk_idx) id = id < 0 ? id : (id + i) % world.dispatch.num_experts;
    }
    complete_low_latency_world(world);
  }
  return worlds;
}

/// One rank: captures kLayers layers, each a dispatch, an expert that leaves rows as they are and a combine, that all
/// read the same input, and launches them for each world.
class GraphRank {
 public:
  GraphRank(const std::shared_ptr<Bootstrap>& bootstrap, const std::vector<LowLatencyWorld>& worlds)
      : bootstrap_(bootstrap),
        worlds_(worlds),
        place_(bootstrap->rank()),
        buffer_(bootstrap, on_device_of(place_, cuda_low_latency_options())),
        rank_(buffer_.rank()) {
    const LowLatencyDispatchInput host = low_latency_input(worlds[0], rank_);
    x_ = place_.place(host.x);
    ids_ = place_.place(host.topk_idx);
    const auto& mine = worlds[0].combine.ranks[static_cast<std::size_t>(rank_)];
    weights_ = place_.place(make_matrix(DataType::kFloat32, worlds[0].combine.num_topk, std::span(mine.topk_weights)));
  }

  void run() {
    const auto capture = [this] {
      for (int layer = 0; layer < kLayers; ++layer) capture_layer();
    };
    const CapturedGraph graph(place_, capture, [this] { bootstrap_->barrier(kPatience); });
    launch_with_bad_id(graph);
    for (const LowLatencyWorld& world : worlds_) {
      write_input(world);
      graph.launch();
      graph.launch();
      place_.synchronize();
      check_outputs(world);
      LowLatencyRun(buffer_, world, place_).run();  // between launches the buffer serves others
    }
  }

 private:
  void capture_layer() {
    OperationOptions options;
    options.completion = outputs_.empty() ? Completion::kStream : Completion::kSynchronous;  // the same in a capture
    options.stream = place_.stream();
    const LowLatencyWorld& world = worlds_[0];
    const LowLatencyDispatchOutput dispatched =
        buffer_.low_latency_dispatch({.x = x_,
                                      .topk_idx = ids_,
                                      .num_max_dispatch_tokens_per_rank = world.dispatch.max_tokens,
                                      .num_experts = world.dispatch.num_experts,
                                      .format = RowFormat::kBfloat16},
                                     options);
    LowLatencyCombineInput input;
    input.handle = dispatched.handle;
    input.topk_weights = weights_;
    input.topk_idx = ids_;
    input.use_logfmt = world.combine.format == reference::low_latency::WireFormat::kLogFmt;
    if (input.use_logfmt) {
      input.x = dispatched.packed_recv_x;
    } else {
      input.x = buffer_.next_combine_buffer(dispatched.handle);
      input.zero_copy = true;
      check(cudaMemcpyAsync(input.x.data(), dispatched.packed_recv_x.data(), input.x.num_bytes(),
                            cudaMemcpyDeviceToDevice, static_cast<cudaStream_t>(options.stream.native)));
    }
    outputs_.push_back(buffer_.low_latency_combine(input, options).combined_x);
  }

  /// The combines sum no rows then. The next operation throws.
  void launch_with_bad_id(const CapturedGraph& graph) {
    if (rank_ == 1) {
      const std::vector<std::byte> bad(size_of(ids_.dtype()), std::byte{0x7F});
      place_.write(ids_, bad);
    }
    graph.launch();
    place_.synchronize();
    std::optional<ErrorCode> code;
    try {
      LowLatencyRun(buffer_, worlds_[0], place_).run();
    } catch (const Error& error) {
      code = error.code();
    }
    if (code != ErrorCode::kInvalidArgument) throw std::runtime_error("a bad id in a graph was not thrown later");
    for (const Tensor& output : outputs_) {
      const Tensor got = place_.fetch(output);
      const std::span<const std::byte> bytes(got.data_as<std::byte>(), got.num_bytes());
      if (std::ranges::any_of(bytes, [](std::byte byte) { return byte != std::byte{0}; })) {
        throw std::runtime_error("a combine found rows of a dispatch that failed");
      }
    }
  }

  void write_input(const LowLatencyWorld& world) {
    const LowLatencyDispatchInput host = low_latency_input(world, rank_);
    const Tensor ids = host.topk_idx;
    place_.write(ids_, {ids.data_as<std::byte>(), ids.num_bytes()});
  }

  void check_outputs(const LowLatencyWorld& world) const {
    reference::low_latency::CombineWorld combine = world.combine;
    for (std::size_t r = 0; r < combine.ranks.size(); ++r) {
      combine.ranks[r].x = world.dispatched[r].x;
      combine.ranks[r].topk_weights = worlds_[0].combine.ranks[r].topk_weights;
    }
    const auto expected = reference::low_latency::combine(combine, world.dispatched)[static_cast<std::size_t>(rank_)];
    for (const Tensor& output : outputs_) {
      const Tensor got = place_.fetch(output);
      if (std::memcmp(got.data(), expected.data(), got.num_bytes()) != 0) {
        throw std::runtime_error("the rows that a graph combined are not the oracle's: " + world.description());
      }
    }
  }

  std::shared_ptr<Bootstrap> bootstrap_;
  const std::vector<LowLatencyWorld>& worlds_;
  CudaStreamPlace place_;
  Buffer buffer_;
  int rank_;
  Tensor x_;
  Tensor ids_;
  Tensor weights_;
  std::vector<Tensor> outputs_;
};

TEST(CudaGraphs, LowLatencyModeIsReplayedWithChangingRouting) {
  if (const std::string reason = why_no_cuda_device(); !reason.empty()) GTEST_SKIP() << reason;
  for (const auto format :
       {reference::low_latency::WireFormat::kBfloat16, reference::low_latency::WireFormat::kLogFmt}) {
    const std::vector<LowLatencyWorld> worlds = worlds_of_one_shape(format);
    run_as_threads(kRanks, [&](const auto& bootstrap) { GraphRank(bootstrap, worlds).run(); });
  }
}

/// A world of rows that combine sums, with tokens on each rank.
std::uint64_t throughput_seed() {
  for (std::uint64_t seed = 1;; ++seed) {
    if (num_ranks_of(seed) != kRanks) continue;
    const RandomWorld world = make_random_world(seed);
    const bool has_tokens =
        std::ranges::all_of(world.routed, [](const auto& rank) { return rank.num_recv_tokens > 4; });
    const bool is_summed = world.x.dtype == DataType::kBfloat16 || world.x.dtype == DataType::kFloat32;
    if (world.with_topk && world.id_dtype == DataType::kInt64 && is_summed && has_tokens) return seed;
  }
}

/// Of equal shape, with other rows, ids and weights, and room for what any of them sends. `alignment` is that of
/// expanded dispatches, 0: they are not expanded.
std::vector<RandomWorld> throughput_worlds(int num_worlds, int alignment) {
  std::vector<RandomWorld> worlds;
  for (int i = 0; i < num_worlds; ++i) {
    worlds.push_back(make_random_world(throughput_seed()));
    RandomWorld& world = worlds.back();
    world.num_worst_tokens = std::int64_t{world.num_experts} * alignment;
    world.expand = world.routing.expand = alignment > 0;
    world.expert_alignment = world.routing.expert_alignment = std::max(alignment, 1);
    world.routing.scale_row_bytes = 0;
    for (auto& rank : world.routing.ranks) {
      *world.num_worst_tokens += rank.num_tokens * (alignment > 0 ? world.routing.num_topk : 1);
      for (std::int64_t& id : rank.topk_idx) id = id < 0 ? id : (id + i) % world.num_experts;
      rank.scales.clear();
      const auto shift = std::min<std::ptrdiff_t>(i, std::ssize(rank.x));
      std::rotate(rank.x.begin(), rank.x.begin() + shift, rank.x.end());
    }
    world.expected = reference::dispatch(world.routing);
  }
  return worlds;
}

/// One rank of throughput mode: a dispatch of rows that are bfloat16 or float32, an expert that leaves them as they
/// are, a second dispatch with the handle, and a combine from the arena and one from elsewhere.
class ThroughputGraphRank {
 public:
  ThroughputGraphRank(const std::shared_ptr<Bootstrap>& bootstrap, const std::vector<RandomWorld>& worlds)
      : bootstrap_(bootstrap),
        worlds_(worlds),
        place_(bootstrap->rank()),
        buffer_(bootstrap, on_device_of(place_, buffer_options())),
        rank_(static_cast<std::size_t>(buffer_.rank())) {
    const auto& mine = worlds[0].routing.ranks[rank_];
    const int num_topk = worlds[0].routing.num_topk;
    x_ = place_.place(make_rows(worlds[0].x, mine.x));
    ids_ = place_.place(make_matrix<std::int64_t>(DataType::kInt64, num_topk, mine.topk_idx));
    weights_ = place_.place(make_matrix<float>(DataType::kFloat32, num_topk, mine.topk_weights));
    outside_ = place_.place(
        make_rows(worlds[0].x, std::vector<std::byte>(static_cast<std::size_t>(num_rows()) * worlds[0].x.row_bytes())));
  }

  void run() {
    const auto capture = [this] {
      for (int layer = 0; layer < kLayers; ++layer) capture_layer();
    };
    const CapturedGraph graph(place_, capture, [this] { bootstrap_->barrier(kPatience); });
    for (const RandomWorld& world : worlds_) {
      const auto& mine = world.routing.ranks[rank_];
      place_.write(x_, mine.x);
      place_.write(ids_, std::as_bytes(std::span(mine.topk_idx)));
      graph.launch();
      graph.launch();
      place_.synchronize();
      check_outputs(world);
    }
  }

 private:
  struct Layer {
    DispatchOutput dispatched;
    DispatchOutput again;
    CombineOutput combined;
    CombineOutput from_outside;
  };

  static BufferOptions buffer_options() {
    BufferOptions options = cuda_low_latency_options();
    options.max_experts = BufferOptions().max_experts;
    options.arena_bytes = std::size_t{64} << 20U;
    return options;
  }

  [[nodiscard]] std::int64_t num_rows() const { return *worlds_[0].num_worst_tokens; }

  void copy(const Tensor& from, const Tensor& to) const {
    check(cudaMemcpyAsync(to.data(), from.data(), from.num_bytes(), cudaMemcpyDeviceToDevice,
                          static_cast<cudaStream_t>(place_.stream().native)));
  }

  void capture_layer() {
    OperationOptions options;
    options.completion = layers_.empty() ? Completion::kStream : Completion::kSynchronous;  // the same in a capture
    options.stream = place_.stream();
    Layer layer;
    DispatchInput input;
    input.x = x_;
    input.topk_idx = ids_;
    input.topk_weights = weights_;
    input.num_experts = worlds_[0].num_experts;
    input.num_worst_tokens = num_rows();
    input.expand = worlds_[0].expand;
    input.expert_alignment = worlds_[0].expert_alignment;
    if (layers_.size() == 1) input.layout = buffer_.get_dispatch_layout(ids_, input.num_experts, options);
    layer.dispatched = buffer_.dispatch(input, options);
    const DispatchHandle& handle = layer.dispatched.handle;
    layer.again = buffer_.dispatch(CachedDispatchInput{.x = x_, .handle = handle}, options);
    CombineInput combine;
    combine.handle = handle;
    combine.x = buffer_.combine_input(handle, worlds_[0].x.columns, worlds_[0].x.dtype);
    copy(layer.dispatched.recv_x, combine.x);
    combine.topk_weights = layer.dispatched.recv_topk_weights;
    layer.combined = buffer_.combine(combine, options);
    combine.x = outside_;
    copy(layer.dispatched.recv_x, combine.x);
    layer.from_outside = buffer_.combine(combine, options);
    layers_.push_back(layer);
  }

  void expect(const std::string& name, const Tensor& got, const void* expected, std::size_t bytes) const {
    if (std::memcmp(place_.fetch(got).data(), expected, bytes) != 0) {
      throw std::runtime_error(name + " of a graph is not the oracle's");
    }
  }

  void check_outputs(const RandomWorld& world) const {
    reference::CombineWorld combine{world.x.dtype, world.x.columns, world.routing.num_topk, {}};
    for (std::size_t r = 0; r < world.expected.size(); ++r) {
      combine.ranks.push_back(
          {world.routing.ranks[r].num_tokens, world.expected[r].recv_x, world.expected[r].recv_topk_weights, {}, {}});
    }
    const auto combined = reference::combine(combine, world.expected)[rank_];
    const reference::DispatchedRank& received = world.expected[rank_];
    for (const Layer& layer : layers_) {
      if (layer.dispatched.handle.num_recv_tokens() != received.num_recv_tokens) {
        throw std::runtime_error("the handle of a graph knows another number of tokens");
      }
      expect("recv_x", layer.dispatched.recv_x, received.recv_x.data(), received.recv_x.size());
      expect("recv_x of the handle", layer.again.recv_x, received.recv_x.data(), received.recv_x.size());
      if (world.expand) {
        expect("group ends", *layer.dispatched.psum_num_recv_tokens_per_expert, received.group_ends.data(),
               received.group_ends.size() * sizeof(std::int32_t));
      } else {
        expect("recv_topk_idx", *layer.dispatched.recv_topk_idx, received.recv_topk_idx.data(),
               received.recv_topk_idx.size() * sizeof(std::int64_t));
      }
      for (const CombineOutput* output : {&layer.combined, &layer.from_outside}) {
        expect("combined_x", output->combined_x, combined.combined_x.data(), combined.combined_x.size());
        expect("combined weights", *output->combined_topk_weights, combined.combined_topk_weights.data(),
               combined.combined_topk_weights.size() * sizeof(float));
      }
    }
  }

  std::shared_ptr<Bootstrap> bootstrap_;
  const std::vector<RandomWorld>& worlds_;
  CudaStreamPlace place_;
  Buffer buffer_;
  std::size_t rank_;
  Tensor x_;
  Tensor ids_;
  Tensor weights_;
  Tensor outside_;
  std::vector<Layer> layers_;
};

TEST(CudaGraphs, ThroughputModeIsReplayedWithChangingRouting) {
  if (const std::string reason = why_no_cuda_device(); !reason.empty()) GTEST_SKIP() << reason;
  for (const int alignment : {0, 1, 8}) {
    const std::vector<RandomWorld> worlds = throughput_worlds(kWorlds, alignment);
    run_as_threads(kRanks, [&](const auto& bootstrap) { ThroughputGraphRank(bootstrap, worlds).run(); });
  }
}

/// It needs the host. The capture goes on.
TEST(CudaGraphs, ADispatchWithoutAWorstCaseIsRefused) {
  if (const std::string reason = why_no_cuda_device(); !reason.empty()) GTEST_SKIP() << reason;
  run_as_threads(1, [](const std::shared_ptr<Bootstrap>& bootstrap) {
    const CudaStreamPlace place(bootstrap->rank());
    Buffer buffer(bootstrap, on_device_of(place, cuda_low_latency_options()));
    DispatchInput input;
    input.topk_idx = place.place(make_matrix<std::int64_t>(DataType::kInt64, 1, std::vector<std::int64_t>{0, 1}));
    input.topk_weights = place.place(make_matrix<float>(DataType::kFloat32, 1, std::vector<float>{1, 1}));
    input.x = *input.topk_weights;
    input.num_experts = 4;
    const auto stream = static_cast<cudaStream_t>(place.stream().native);
    OperationOptions options;
    options.stream = place.stream();
    check(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
    std::optional<ErrorCode> code;
    try {
      static_cast<void>(buffer.dispatch(input, options));
    } catch (const Error& error) {
      code = error.code();
    }
    cudaGraph_t graph = nullptr;
    check(cudaStreamEndCapture(stream, &graph));
    check(cudaGraphDestroy(graph));
    if (code != ErrorCode::kUnsupported) throw std::runtime_error("not refused, or with another error");
  });
}

}  // namespace
}  // namespace crossdock::testing
