// Masked ranks on a CUDA device: the others get what the oracle says of a world without them, and they can come back.
#include <gtest/gtest.h>

#include <chrono>
#include <cstddef>
#include <functional>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include <crossdock/buffer.hpp>

#include "backend/cuda/cuda_place.hpp"
#include "backend/cuda/device_probe.hpp"
#include "backend/cuda/low_latency_worlds.hpp"
#include "backend/cuda/mask_run.hpp"
#include "core/expanded_mask.hpp"
#include "core/low_latency_run.hpp"
#include "core/masked_world.hpp"
#include "core/world_run.hpp"

namespace crossdock::testing {
namespace {

constexpr int kRanks = 3;
constexpr int kMasked = 1;

/// Worlds of both modes, in turn; throughput ones with and without a worst case.
class Worlds {
 public:
  Worlds() {
    for (const RandomWorld& world : throughput_) masked_throughput_.push_back(masked_world(world, {kMasked}));
    for (std::uint64_t seed = 1; seed <= 8; ++seed) {
      low_latency_.push_back(make_low_latency_world(seed, {.num_ranks = kRanks}));
      masked_low_latency_.push_back(with_masked(low_latency_.back(), {kMasked}, {kMasked}));
    }
  }

  void run(Buffer& buffer, const TensorPlace& place, bool is_masked) const {
    for (std::size_t i = 0; i < throughput_.size(); ++i) {
      run_world_or_throw(buffer, throughput_[i], is_masked ? masked_throughput_[i] : throughput_[i], place);
      if (i >= low_latency_.size()) continue;
      LowLatencyRun(buffer, low_latency_[i], is_masked ? masked_low_latency_[i] : low_latency_[i], place)
          .run(cuda_options_of(i, buffer.rank()));
    }
  }

 private:
  std::vector<RandomWorld> throughput_ = random_worlds_of(kRanks, 24);
  std::vector<RandomWorld> masked_throughput_;
  std::vector<LowLatencyWorld> low_latency_;
  std::vector<LowLatencyWorld> masked_low_latency_;
};

void run_ranks(const std::function<void(Buffer&, const TensorPlace&, Points&)>& body, int num_ranks = kRanks) {
  testing::run_ranks(
      num_ranks, [](int) { return cuda_mask_options(kRanks); }, body);
}

struct CudaMasks : ::testing::Test {
  void SetUp() override {
    if (const std::string why_not = why_no_cuda_device(); !why_not.empty()) GTEST_SKIP() << why_not;
  }
};

TEST_F(CudaMasks, ARankIsLeftOutAndComesBack) {
  const Worlds worlds;
  run_ranks([&](Buffer& buffer, const TensorPlace& place, Points& points) {
    for (int round = 0; round < 3; ++round) {
      worlds.run(buffer, place, false);
      points.reach();
      if (buffer.rank() != kMasked) buffer.mask_rank(kMasked);
      points.reach();
      if (buffer.rank() == kMasked) {
        expect_state_error([&] { worlds.run(buffer, place, false); });
      } else {
        worlds.run(buffer, place, true);
      }
      points.reach();
      buffer.clear_masks();
      points.reach();
    }
  });
}

TEST_F(CudaMasks, HandleOfAnExpandedDispatchFromBeforeAMask) {
  for (const bool with_worst_case : {false, true}) {
    const auto run = [&](Buffer& buffer, const TensorPlace& place, Points& points) {
      std::string text;
      const auto meet = [&] { points.reach(); };
      for (const std::string& line : run_expanded_mask(buffer, place, meet, with_worst_case)) text += "\n  " + line;
      if (!text.empty()) throw std::runtime_error("rank " + std::to_string(buffer.rank()) + ":" + text);
    };
    run_ranks(run, kExpandedMaskRanks);
  }
}

/// It had begun an operation that the others never called.
TEST_F(CudaMasks, ARankThatWaitsHearsOfIt) {
  const Worlds worlds;
  const LowLatencyWorld world = make_low_latency_world(3, {.num_ranks = kRanks});
  run_ranks([&](Buffer& buffer, const TensorPlace& place, Points& points) {
    points.reach();
    if (buffer.rank() == kMasked) {
      expect_state_error([&] { LowLatencyRun(buffer, world, place).run({}); });
    } else {
      std::this_thread::sleep_for(std::chrono::milliseconds(200));
      buffer.mask_rank(kMasked);
      worlds.run(buffer, place, true);
    }
    points.reach();
    buffer.clear_masks();
    points.reach();
    worlds.run(buffer, place, false);
  });
}

/// Masked and let in between two operations: it has missed nothing.
TEST_F(CudaMasks, AMaskOfNoOperationIsAsNone) {
  const Worlds worlds;
  run_ranks([&](Buffer& buffer, const TensorPlace& place, Points& points) {
    worlds.run(buffer, place, false);
    points.reach();
    if (buffer.rank() != kMasked) {
      buffer.mask_rank(kMasked);
      buffer.mask_rank(kMasked, false);
    }
    points.reach();
    worlds.run(buffer, place, false);
  });
}

}  // namespace
}  // namespace crossdock::testing
