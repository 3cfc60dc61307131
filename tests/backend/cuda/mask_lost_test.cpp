// BufferOptions::mask_lost_ranks on CUDA devices: a rank that does not come is left out by all, and comes back.
#include <gtest/gtest.h>

#include <chrono>
#include <cstddef>
#include <functional>
#include <stdexcept>
#include <string>
#include <vector>

#include <crossdock/buffer.hpp>

#include "backend/cuda/cuda_place.hpp"
#include "backend/cuda/device_probe.hpp"
#include "backend/cuda/low_latency_worlds.hpp"
#include "backend/cuda/mask_run.hpp"
#include "core/low_latency_run.hpp"
#include "core/masked_world.hpp"
#include "core/world_run.hpp"

namespace crossdock::testing {
namespace {

constexpr int kRanks = 4;
constexpr int kVictim = 1;

using Clock = std::chrono::steady_clock;

/// One rank's patience decides for all.
BufferOptions lossy_options(int rank) {
  BufferOptions options = cuda_mask_options(kRanks);
  options.mask_lost_ranks = true;
  options.timeout = rank == 0 ? Milliseconds(400) : Milliseconds(20'000);
  return options;
}

/// Low-latency worlds, and what comes of them without the victim; and some of throughput mode with a worst case.
struct Worlds {
  std::vector<LowLatencyWorld> whole;
  std::vector<LowLatencyWorld> masked;
  std::vector<RandomWorld> worst_cases;

  Worlds() {
    for (const RandomWorld& world : random_worlds_of(kRanks, 40)) {
      if (world.num_worst_tokens && worst_cases.size() < 6) worst_cases.push_back(world);
    }
    for (std::uint64_t seed = 1; seed <= 12; ++seed) {
      whole.push_back(make_low_latency_world(seed, {.num_ranks = kRanks}));
      masked.push_back(with_masked(whole.back(), {kVictim}, {kVictim}));
    }
  }

  void run(Buffer& buffer, const TensorPlace& place, bool is_masked) const {
    for (std::size_t i = 0; i < whole.size(); ++i) {
      LowLatencyRun(buffer, whole[i], is_masked ? masked[i] : whole[i], place).run(cuda_options_of(i, buffer.rank()));
    }
    for (const RandomWorld& world : worst_cases) {
      run_world_or_throw(buffer, world, is_masked ? masked_world(world, {kVictim}) : world, place);
    }
  }
};

using Body = std::function<void(Buffer&, const TensorPlace&)>;

/// The victim does `live` and then nothing, while the others run `survive`; then it finds that it is masked, and all
/// let it in again.
void run_with_victim(const Worlds& worlds, const Body& live, const Body& survive) {
  run_ranks(kRanks, lossy_options, [&](Buffer& buffer, const TensorPlace& place, Points& points) {
    worlds.run(buffer, place, false);
    points.reach();
    if (buffer.rank() == kVictim) {
      live(buffer, place);
    } else {
      survive(buffer, place);
      if (buffer.masked_ranks() != std::vector<int>{kVictim}) throw std::runtime_error("the victim is not masked");
      const auto begin = Clock::now();
      worlds.run(buffer, place, true);
      if (Clock::now() - begin > std::chrono::seconds(3)) throw std::runtime_error("still waited for");
    }
    points.reach();
    if (buffer.rank() == kVictim) expect_state_error([&] { LowLatencyRun(buffer, worlds.whole[0], place).run(); });
    points.reach();
    buffer.clear_masks();
    points.reach();
    if (!buffer.masked_ranks().empty()) throw std::runtime_error("there are masks left");
    worlds.run(buffer, place, false);
  });
}

const Body kNothing = [](Buffer&, const TensorPlace&) {};

struct CudaLostRanks : ::testing::Test {
  void SetUp() override {
    if (const std::string why_not = why_no_cuda_device(); !why_not.empty()) GTEST_SKIP() << why_not;
  }
  Worlds worlds;
};

struct CudaLostRanksBy : CudaLostRanks, ::testing::WithParamInterface<Completion> {};

TEST_P(CudaLostRanksBy, BeforeItAnnouncesADispatch) {
  run_with_victim(worlds, kNothing, [&](Buffer& buffer, const TensorPlace& place) {
    OperationOptions options;
    options.completion = GetParam();
    LowLatencyRun(buffer, worlds.whole[1], worlds.masked[1], place).run(options);
  });
}

/// What it dispatched is there.
TEST_P(CudaLostRanksBy, BeforeItAnnouncesACombine) {
  const LowLatencyWorld& world = worlds.whole[2];
  const LowLatencyWorld expected = with_masked(world, {}, {kVictim});
  const auto live = [&](Buffer& buffer, const TensorPlace& place) { LowLatencyRun(buffer, world, place).dispatch(); };
  run_with_victim(worlds, live, [&](Buffer& buffer, const TensorPlace& place) {
    OperationOptions options;
    options.completion = GetParam();
    LowLatencyRun(buffer, world, expected, place).run(options);
  });
}

INSTANTIATE_TEST_SUITE_P(Completions, CudaLostRanksBy,
                         ::testing::Values(Completion::kSynchronous, Completion::kStream, Completion::kHook));

/// The second one is announced before anyone knows.
TEST_F(CudaLostRanks, WhileTwoHooksAreOpen) {
  run_with_victim(worlds, kNothing, [&](Buffer& buffer, const TensorPlace& place) {
    OperationOptions options;
    options.completion = Completion::kHook;
    LowLatencyRun first(buffer, worlds.whole[3], worlds.masked[3], place);
    LowLatencyRun second(buffer, worlds.whole[4], worlds.masked[4], place);
    first.dispatch(options);
    second.dispatch(options);
    for (LowLatencyRun* run : {&first, &second}) {
      run->receive_dispatch();
      run->check_dispatch();
    }
    for (LowLatencyRun* run : {&first, &second}) run->combine(options);
    for (LowLatencyRun* run : {&first, &second}) {
      run->receive_combine();
      run->check_combine();
    }
  });
}

/// Through the host, as the host backend does it.
TEST_F(CudaLostRanks, InThroughputMode) {
  const std::vector<RandomWorld> random = random_worlds_of(kRanks, 12);
  run_with_victim(worlds, kNothing, [&](Buffer& buffer, const TensorPlace& place) {
    for (const RandomWorld& world : random) {
      run_world_or_throw(buffer, world, masked_world(world, {kVictim}), place);
    }
  });
}

TEST_F(CudaLostRanks, InThroughputModeWithoutTheHost) {
  run_with_victim(worlds, kNothing, [&](Buffer& buffer, const TensorPlace& place) {
    run_world_or_throw(buffer, worlds.worst_cases[0], masked_world(worlds.worst_cases[0], {kVictim}), place);
  });
}

}  // namespace
}  // namespace crossdock::testing
