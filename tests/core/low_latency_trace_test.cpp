// Low-latency mode with the routing of trained models (data/README.md), as a decoding batch has it.
#include <gtest/gtest.h>

#include <cstdint>
#include <filesystem>
#include <ostream>
#include <string>
#include <utility>

#include <crossdock/config.hpp>

#include "core/low_latency_run.hpp"
#include "crossdock/safetensors.hpp"
#include "support/draw.hpp"
#include "support/ranks.hpp"

namespace crossdock::testing {
namespace {

namespace oracle = reference::low_latency;

constexpr int kRanks = 8;
constexpr std::int64_t kTokens = 128;
constexpr std::int64_t kHidden = 72;
constexpr int kTopk = 8;

struct Trace {
  const char* file;
  int num_experts;
  std::int64_t layer;
  oracle::RowFormat format;
  oracle::WireFormat wire;

  friend void PrintTo(const Trace& trace, std::ostream* out) { *out << trace.file << ", layer " << trace.layer; }
};

/// The first ranks' first tokens of a layer, with random rows.
LowLatencyWorld make_trace_world(const Trace& trace) {
  using tool::SafetensorsType;
  const tool::SafetensorsFile file(std::filesystem::path(CROSSDOCK_DATA_DIRECTORY) / trace.file);
  const std::initializer_list<std::int64_t> shape{2, 16, 4096, kTopk};
  const auto ids = file.view().values<std::int16_t>("topk_idx", SafetensorsType::kI16, shape);
  const auto weights = file.view().values<Bfloat16>("topk_weights", SafetensorsType::kBf16, shape);
  const auto first = [&](std::size_t rank) {
    return (static_cast<std::size_t>(trace.layer) * 16 + rank) * 4096 * kTopk;
  };

  LowLatencyWorld world;
  world.dispatch.num_experts = trace.num_experts;
  world.dispatch.num_topk = kTopk;
  world.dispatch.hidden = kHidden;
  world.dispatch.max_tokens = kTokens;
  world.dispatch.format = trace.format;
  world.combine.format = trace.wire;
  Draw draw(static_cast<std::uint64_t>(trace.layer));
  for (std::size_t r = 0; r < kRanks; ++r) {
    oracle::DispatchRank& rank = world.dispatch.ranks.emplace_back();
    rank.num_tokens = kTokens;
    for (std::int64_t i = 0; i < kTokens * kHidden; ++i) {
      rank.x.push_back(to_bfloat16(static_cast<float>(draw.between(-1000, 1000)) / 64.0F));
    }
    const auto chosen = ids.begin() + static_cast<std::ptrdiff_t>(first(r));
    rank.topk_idx.assign(chosen, chosen + kTokens * kTopk);
  }
  complete_low_latency_world(world);
  for (std::size_t r = 0; r < kRanks; ++r) {
    for (std::size_t i = 0; i < static_cast<std::size_t>(kTokens * kTopk); ++i) {
      world.combine.ranks[r].topk_weights[i] = to_float(weights[first(r) + i]);
    }
  }
  return with_masked(std::move(world), {}, {});
}

class LowLatencyTrace : public ::testing::TestWithParam<Trace> {};

TEST_P(LowLatencyTrace, EqualsTheOracle) {
  const LowLatencyWorld world = make_trace_world(GetParam());
  BufferOptions options;
  options.arena_bytes = get_low_latency_rdma_size_hint(kTokens, kHidden, kRanks, GetParam().num_experts);
  options.timeout = Milliseconds(20'000);
  options.huge_pages = HugePages::kNever;
  const auto body = [&](const std::shared_ptr<Bootstrap>& bootstrap) {
    Buffer buffer(bootstrap, options);
    LowLatencyRun(buffer, world).run();
  };
  ASSERT_NO_THROW(run_as_threads(kRanks, body));
}

constexpr Trace kTraces[] = {
    {"trace_e64_k8.safetensors", 64, 0, oracle::RowFormat::kBfloat16, oracle::WireFormat::kBfloat16},
    {"trace_e64_k8.safetensors", 64, 1, oracle::RowFormat::kFloat8, oracle::WireFormat::kLogFmt},
    {"trace_e256_k8.safetensors", 256, 0, oracle::RowFormat::kFloat8PowerOfTwo, oracle::WireFormat::kBfloat16},
    {"trace_e256_k8.safetensors", 256, 1, oracle::RowFormat::kFloat8Ue8m0, oracle::WireFormat::kBfloat16},
};

INSTANTIATE_TEST_SUITE_P(Recorded, LowLatencyTrace, ::testing::ValuesIn(kTraces), [](const auto& test) {
  return "experts_" + std::to_string(test.param.num_experts) + "_layer_" + std::to_string(test.param.layer);
});

}  // namespace
}  // namespace crossdock::testing
