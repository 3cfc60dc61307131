// Thousands of operations of both modes in a row on one buffer: results stay right, and memory constant.
#include <cuda_runtime_api.h>
#include <gtest/gtest.h>

#include <chrono>
#include <stdexcept>
#include <string>
#include <vector>

#include "backend/cuda/cuda_place.hpp"
#include "backend/cuda/device_probe.hpp"
#include "backend/cuda/low_latency_worlds.hpp"
#include "core/low_latency_run.hpp"
#include "core/world_run.hpp"
#include "support/ranks.hpp"

namespace crossdock::testing {
namespace {

constexpr int kRanks = 4;
constexpr int kOperations = 10'000;
constexpr int kOperationsOfARound = 4;  ///< a dispatch and a combine of each mode
constexpr std::int64_t kTokens = 24;
constexpr std::int64_t kHidden = 512;

/// Each rank's rows are its number, so sums are small whole numbers: exact whatever their order.
class ThroughputRound {
 public:
  ThroughputRound(const TensorPlace& place, int rank) {
    const auto value = to_bfloat16(static_cast<float>(rank + 1));
    std::vector<std::int64_t> ids;
    for (std::int64_t t = 0; t < kTokens; ++t) {
      ids.push_back(t % kRanks);
      ids.push_back((t + 1) % kRanks);
    }
    const std::vector<Bfloat16> x(static_cast<std::size_t>(kTokens * kHidden), value);
    input_.x = place.place(make_matrix<Bfloat16>(DataType::kBfloat16, kHidden, x));
    input_.topk_idx = place.place(make_matrix<std::int64_t>(DataType::kInt64, 2, ids));
    input_.topk_weights = place.place(make_matrix<float>(DataType::kFloat32, 2, std::vector<float>(ids.size(), 1.0F)));
    input_.num_experts = kRanks;
    expected_ = to_bfloat16(static_cast<float>(2 * (rank + 1)));
  }

  void run(Buffer& buffer, const TensorPlace& place, bool checks) const {
    OperationOptions options;
    options.stream = place.stream();
    const DispatchOutput output = buffer.dispatch(input_, options);
    const Tensor combined = buffer.combine({.x = output.recv_x, .handle = output.handle}, options).combined_x;
    if (!checks) return;
    const Tensor here = place.fetch(combined);
    for (std::int64_t i = 0; i < here.num_elements(); ++i) {
      if (here.data_as<Bfloat16>()[i].bits != expected_.bits) throw std::runtime_error("a sum is wrong");
    }
  }

 private:
  DispatchInput input_;
  Bfloat16 expected_{};
};

/// What others still read is given back when they have.
void expect_nothing_held(const Buffer& buffer) {
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(5);
  while (buffer.arena_bytes_free() != buffer.arena_bytes_total()) {
    if (std::chrono::steady_clock::now() > end) throw std::runtime_error("slabs were lost");
  }
}

TEST(CudaSoak, TenThousandOperationsInARow) {
  if (const std::string reason = why_no_cuda_device(); !reason.empty()) GTEST_SKIP() << reason;
  constexpr int kRounds = kOperations / kOperationsOfARound;
  constexpr int kChecksEvery = 100;
  std::vector<LowLatencyWorld> worlds;
  for (std::uint64_t seed = 1; seed <= 8; ++seed) {
    worlds.push_back(make_low_latency_world(seed, {.num_ranks = kRanks}));
  }
  run_as_threads(kRanks, [&](const std::shared_ptr<Bootstrap>& bootstrap) {
    const CudaStreamPlace place(bootstrap->rank());
    Buffer buffer(bootstrap, on_device_of(place, cuda_low_latency_options()));
    const ThroughputRound throughput(place, buffer.rank());
    for (int round = 0; round < kRounds; ++round) {
      const auto index = static_cast<std::size_t>(round);
      throughput.run(buffer, place, round % kChecksEvery == 0);
      LowLatencyRun(buffer, worlds[index % worlds.size()], place).run(cuda_options_of(index / 8, buffer.rank()));
    }
    expect_nothing_held(buffer);
  });
}

}  // namespace
}  // namespace crossdock::testing
