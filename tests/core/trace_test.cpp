// Routing of trained models (data/README.md): skewed as routing really is.
#include <gtest/gtest.h>

#include <cstdint>
#include <filesystem>
#include <mutex>
#include <string>

#include "base/bfloat16.hpp"
#include "core/world_run.hpp"
#include "crossdock/safetensors.hpp"
#include "support/draw.hpp"
#include "support/ranks.hpp"

namespace crossdock::testing {
namespace {

constexpr int kRanks = 8;
constexpr std::int64_t kTokens = 512;
constexpr std::int64_t kHidden = 24;
constexpr int kTopk = 8;

struct Trace {
  const char* file;
  int num_experts;
  std::int64_t layer;
};

/// The first ranks' first tokens of a layer, with random rows; combine returns what was received, with its weights.
RandomWorld make_trace_world(const Trace& trace) {
  using tool::SafetensorsType;
  const tool::SafetensorsFile file(std::filesystem::path(CROSSDOCK_DATA_DIRECTORY) / trace.file);
  const std::initializer_list<std::int64_t> shape{2, 16, 4096, kTopk};
  const auto ids = file.view().values<std::int16_t>("topk_idx", SafetensorsType::kI16, shape);
  const auto weights = file.view().values<Bfloat16>("topk_weights", SafetensorsType::kBf16, shape);

  RandomWorld world;
  world.x = {DataType::kBfloat16, kHidden};
  world.num_experts = trace.num_experts;
  world.routing = {.num_experts = trace.num_experts,
                   .num_topk = kTopk,
                   .row_bytes = world.x.row_bytes(),
                   .scale_row_bytes = 0,
                   .ranks = std::vector<reference::DispatchRank>(kRanks)};
  Draw draw(static_cast<std::uint64_t>(trace.layer));
  for (std::size_t r = 0; r < kRanks; ++r) {
    reference::DispatchRank& rank = world.routing.ranks[r];
    rank.num_tokens = kTokens;
    rank.x = draw.bytes(static_cast<std::size_t>(kTokens) * world.routing.row_bytes);
    const std::size_t begin = (static_cast<std::size_t>(trace.layer) * 16 + r) * 4096 * kTopk;
    for (std::size_t i = begin; i < begin + static_cast<std::size_t>(kTokens) * kTopk; ++i) {
      rank.topk_idx.push_back(ids[i]);
      rank.topk_weights.push_back(to_float(weights[i]));
    }
  }
  world.routed = world.expected = reference::dispatch(world.routing);

  CombinePart& combine = world.combine.emplace();
  combine.x = world.x;
  combine.source = CombineSource::kReceived;
  combine.world = {.dtype = world.x.dtype, .hidden = kHidden, .num_topk = kTopk, .ranks = {}};
  for (const reference::DispatchedRank& rank : world.routed) {
    combine.world.ranks.push_back(
        {.num_tokens = kTokens, .x = rank.recv_x, .topk_weights = rank.recv_topk_weights, .bias_0 = {}, .bias_1 = {}});
  }
  combine.expected = reference::combine(combine.world, world.routed);
  return world;
}

class TraceTest : public ::testing::TestWithParam<Trace> {};

TEST_P(TraceTest, EqualsTheOracle) {
  const RandomWorld world = make_trace_world(GetParam());
  // The trace's own weights must come back: each is non-zero on exactly one rank.
  ASSERT_EQ(world.combine->expected[0].combined_topk_weights, world.routing.ranks[0].topk_weights);
  std::mutex mutex;
  run_as_threads(kRanks, [&](const std::shared_ptr<Bootstrap>& bootstrap) {
    Buffer buffer(bootstrap, buffer_options_for(kRanks));
    for (const std::string& line : run_world(buffer, world)) {
      const std::scoped_lock lock(mutex);
      ADD_FAILURE() << "rank " << bootstrap->rank() << ": " << line;
    }
  });
}

INSTANTIATE_TEST_SUITE_P(
    Recorded, TraceTest,
    ::testing::Values(Trace{"trace_e64_k8.safetensors", 64, 0}, Trace{"trace_e64_k8.safetensors", 64, 1},
                      Trace{"trace_e256_k8.safetensors", 256, 0}, Trace{"trace_e256_k8.safetensors", 256, 1}),
    [](const auto& test) {
      return "experts_" + std::to_string(test.param.num_experts) + "_layer_" + std::to_string(test.param.layer);
    });

}  // namespace
}  // namespace crossdock::testing
