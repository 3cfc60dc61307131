// Low-latency operations captured in a CUDA graph, which is launched again and again with other routing.
#include <cuda_runtime_api.h>
#include <gtest/gtest.h>

#include <cstring>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include "backend/cuda/cuda_place.hpp"
#include "backend/cuda/device_probe.hpp"
#include "backend/cuda/low_latency_worlds.hpp"
#include "core/low_latency_run.hpp"
#include "support/ranks.hpp"

namespace crossdock::testing {
namespace {

constexpr int kRanks = 4;
constexpr int kWorlds = 12;  ///< of equal shape, with other rows, ids and weights
constexpr int kLayers = 3;

void check(cudaError_t error) {
  if (error != cudaSuccess) throw std::runtime_error(std::string("CUDA: ") + cudaGetErrorString(error));
}

std::vector<LowLatencyWorld> worlds_of_one_shape() {
  const LowLatencyBounds bounds{.num_ranks = kRanks, .all_tokens = true, .no_logfmt = true};
  std::vector<LowLatencyWorld> worlds;
  LowLatencyWorld first = make_low_latency_world(11, bounds);
  first.dispatch.format = reference::low_latency::RowFormat::kBfloat16;
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
      : worlds_(worlds), buffer_(bootstrap, cuda_low_latency_options()), rank_(buffer_.rank()) {
    const LowLatencyDispatchInput host = low_latency_input(worlds[0], rank_);
    x_ = place_.place(host.x);
    ids_ = place_.place(host.topk_idx);
    const auto& mine = worlds[0].combine.ranks[static_cast<std::size_t>(rank_)];
    weights_ = place_.place(make_matrix(DataType::kFloat32, worlds[0].combine.num_topk, std::span(mine.topk_weights)));
  }

  void run() {
    const auto stream = static_cast<cudaStream_t>(place_.stream().native);
    cudaGraph_t graph = nullptr;
    cudaGraphExec_t executable = nullptr;
    check(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
    for (int layer = 0; layer < kLayers; ++layer) capture_layer();
    check(cudaStreamEndCapture(stream, &graph));
    check(cudaGraphInstantiate(&executable, graph, 0));
    for (const LowLatencyWorld& world : worlds_) {
      write_input(world);
      check(cudaGraphLaunch(executable, stream));
      check(cudaGraphLaunch(executable, stream));
      place_.synchronize();
      check_outputs(world);
      LowLatencyRun(buffer_, world, place_).run();  // between launches the buffer serves others
    }
    check(cudaGraphExecDestroy(executable));
    check(cudaGraphDestroy(graph));
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
    input.x = buffer_.next_combine_buffer(dispatched.handle);
    input.zero_copy = true;
    input.topk_weights = weights_;
    check(cudaMemcpyAsync(input.x.data(), dispatched.packed_recv_x.data(), input.x.num_bytes(),
                          cudaMemcpyDeviceToDevice, static_cast<cudaStream_t>(options.stream.native)));
    outputs_.push_back(buffer_.low_latency_combine(input, options).combined_x);
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
  const std::vector<LowLatencyWorld> worlds = worlds_of_one_shape();
  run_as_threads(kRanks, [&](const auto& bootstrap) { GraphRank(bootstrap, worlds).run(); });
}

/// They need the host. The capture goes on.
TEST(CudaGraphs, ThroughputOperationsAreRefused) {
  if (const std::string reason = why_no_cuda_device(); !reason.empty()) GTEST_SKIP() << reason;
  run_as_threads(1, [](const std::shared_ptr<Bootstrap>& bootstrap) {
    const CudaStreamPlace place;
    Buffer buffer(bootstrap, cuda_low_latency_options());
    const Tensor ids = place.place(make_matrix<std::int64_t>(DataType::kInt64, 1, std::vector<std::int64_t>{0, 1}));
    const auto stream = static_cast<cudaStream_t>(place.stream().native);
    OperationOptions options;
    options.stream = place.stream();
    check(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
    std::optional<ErrorCode> code;
    try {
      static_cast<void>(buffer.get_dispatch_layout(ids, 4, options));
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
