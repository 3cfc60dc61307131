// Combines of one handle in a CUDA graph, which stage their rows one after the other.
#include <cuda_runtime_api.h>
#include <gtest/gtest.h>

#include <array>
#include <cstring>
#include <memory>
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
#include "support/ranks.hpp"

namespace crossdock::testing {
namespace {

constexpr int kRanks = 4;

/// One rank: a dispatch outside the graph, and combines of its handle, which stage where others may still read what the
/// one before has staged.
class StagingGraphRank {
 public:
  StagingGraphRank(const std::shared_ptr<Bootstrap>& bootstrap, const std::vector<LowLatencyWorld>& worlds)
      : bootstrap_(bootstrap),
        worlds_(worlds),
        place_(bootstrap->rank()),
        buffer_(bootstrap, on_device_of(place_, cuda_low_latency_options())),
        rank_(static_cast<std::size_t>(buffer_.rank())) {}

  void run() {
    constexpr int kLaunches = 30;
    LowLatencyDispatchInput input = low_latency_input(worlds_[0], buffer_.rank());
    input.x = place_.place(input.x);
    input.topk_idx = place_.place(input.topk_idx);
    handle_ = buffer_.low_latency_dispatch(input).handle;
    for (const LowLatencyWorld& world : worlds_) inputs_.push_back(combine_input(world));
    OperationOptions options;
    options.completion = Completion::kStream;
    options.stream = place_.stream();
    const auto capture = [&] {
      for (const auto& combine : inputs_) static_cast<void>(buffer_.low_latency_combine(combine, options));
    };
    const CapturedGraph graph(place_, capture, [this] { bootstrap_->barrier(Milliseconds(30'000)); });
    // Not too far ahead: a thread for which CUDA's queues have no room keeps the others from theirs.
    for (int i = 0; i < kLaunches; ++i) {
      graph.launch();
      if (i % 3 == 2) place_.synchronize();
    }
    for (std::size_t w = 0; w < worlds_.size(); ++w) {
      const Tensor got = place_.fetch(*inputs_[w].out);
      if (got.num_bytes() > 0 && std::memcmp(got.data(), worlds_[w].combined[rank_].data(), got.num_bytes()) != 0) {
        throw std::runtime_error("combine " + std::to_string(w) + " of one handle in a graph is not the oracle's" +
                                 failure(input));
      }
    }
  }

 private:
  /// What a launch ended with.
  std::string failure(const LowLatencyDispatchInput& input) {
    try {
      static_cast<void>(buffer_.low_latency_dispatch(input));
      return {};
    } catch (const Error& error) {
      return std::string(": ") + error.what();
    }
  }

  LowLatencyCombineInput combine_input(const LowLatencyWorld& world) {
    const auto& mine = world.combine.ranks[rank_];
    const std::array shape{static_cast<std::int64_t>(world.dispatched[rank_].count.size()),
                           kRanks * world.dispatch.max_tokens, world.dispatch.hidden};
    const auto rows = std::make_shared<std::vector<Bfloat16>>(mine.x);
    LowLatencyCombineInput input;
    input.handle = handle_;
    input.x = place_.place(Tensor::own(rows, rows->data(), DataType::kBfloat16, shape));
    input.topk_weights =
        place_.place(make_matrix(DataType::kFloat32, world.combine.num_topk, std::span(mine.topk_weights)));
    const std::vector<Bfloat16> zeros(world.combined[rank_].size());
    input.out = place_.place(make_matrix(DataType::kBfloat16, world.dispatch.hidden, std::span(zeros)));
    input.use_logfmt = world.combine.format == reference::low_latency::WireFormat::kLogFmt;
    return input;
  }

  std::shared_ptr<Bootstrap> bootstrap_;
  const std::vector<LowLatencyWorld>& worlds_;
  CudaStreamPlace place_;
  Buffer buffer_;
  std::size_t rank_;
  LowLatencyHandle handle_;
  std::vector<LowLatencyCombineInput> inputs_;
};

TEST(CudaGraphs, WhatACombineStagesStaysUntilItIsRead) {
  if (const std::string reason = why_no_cuda_device(); !reason.empty()) GTEST_SKIP() << reason;
  for (const auto format :
       {reference::low_latency::WireFormat::kBfloat16, reference::low_latency::WireFormat::kLogFmt}) {
    std::vector<LowLatencyWorld> worlds(6, make_low_latency_world(21, {.num_ranks = kRanks, .all_tokens = true}));
    for (std::size_t w = 0; w < worlds.size(); ++w) {
      worlds[w].seed += w;
      worlds[w].combine.format = format;
      complete_low_latency_world(worlds[w]);
    }
    run_as_threads(kRanks, [&](const auto& bootstrap) { StagingGraphRank(bootstrap, worlds).run(); });
  }
}

}  // namespace
}  // namespace crossdock::testing
