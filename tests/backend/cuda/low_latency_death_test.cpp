// A rank that is killed or leaves in low-latency mode: the others get kPeerLost, and their device works on; or they go
// on without it, if ranks that are lost are to be masked.
#include <cuda_runtime_api.h>
#include <gtest/gtest.h>

#include <chrono>
#include <csignal>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <tuple>
#include <vector>

#include <crossdock/buffer.hpp>
#include <crossdock/error.hpp>

#include "backend/cuda/cuda_place.hpp"
#include "backend/cuda/device_probe.hpp"
#include "backend/cuda/low_latency_worlds.hpp"
#include "core/low_latency_run.hpp"
#include "core/world_run.hpp"
#include "support/ranks.hpp"

namespace crossdock::testing {
namespace {

constexpr int kRanks = 3;
constexpr int kVictim = 1;

enum class End : std::uint8_t { kKilled, kLeft };

void go_on(Buffer& buffer, const TensorPlace& place) {
  for (std::uint64_t seed = 1; seed <= 6; ++seed) {
    const LowLatencyWorld world = make_low_latency_world(seed, {.num_ranks = kRanks});
    const LowLatencyWorld expected = with_masked(world, {kVictim}, {kVictim});
    LowLatencyRun(buffer, world, expected, place).run(cuda_options_of(seed, buffer.rank()));
  }
}

void run_rank(const std::shared_ptr<Bootstrap>& bootstrap, bool at_combine, End end, bool masks) {
  const LowLatencyWorld world = make_low_latency_world(9, {.num_ranks = kRanks});
  const LowLatencyWorld expected = with_masked(world, {}, {kVictim});
  const CudaStreamPlace place(bootstrap->rank());
  BufferOptions options = cuda_low_latency_options();
  options.mask_lost_ranks = masks;
  Buffer buffer(bootstrap, on_device_of(place, options));
  LowLatencyRun(buffer, world, place).run();
  LowLatencyRun run(buffer, world, expected, place);
  if (at_combine) run.dispatch();
  if (bootstrap->rank() == kVictim) {
    if (end == End::kKilled) ::raise(SIGKILL);
    return;  // the buffer is destroyed
  }
  if (masks) {
    if (at_combine) {
      run.check_dispatch();
      run.combine();
      run.check_combine();
    }
    return go_on(buffer, place);
  }
  try {
    if (at_combine) {
      run.combine();
    } else {
      run.dispatch();
    }
    throw std::runtime_error("an operation without a rank that was killed came to its end");
  } catch (const Error& error) {
    if (error.code() != ErrorCode::kPeerLost) throw;
  }
  const cudaError_t state = cudaDeviceSynchronize();
  if (state != cudaSuccess) throw std::runtime_error(std::string("the device: ") + cudaGetErrorString(state));
}

class CudaLowLatencyDeath : public ::testing::TestWithParam<std::tuple<bool, End, bool>> {};

TEST_P(CudaLowLatencyDeath, OthersLoseOrMaskThePeerAndKeepTheDevice) {
  if (const std::string reason = why_no_cuda_device(); !reason.empty()) GTEST_SKIP() << reason;
  const bool at_combine = std::get<0>(GetParam());
  const End end = std::get<1>(GetParam());
  const bool masks = std::get<2>(GetParam());
  const auto begin = std::chrono::steady_clock::now();
  const auto statuses = run_as_processes(
      kRanks, [&](const std::shared_ptr<Bootstrap>& bootstrap) { run_rank(bootstrap, at_combine, end, masks); });
  EXPECT_LT(std::chrono::steady_clock::now() - begin, cuda_low_latency_options().timeout) << "found by the deadline";
  for (int rank = 0; rank < kRanks; ++rank) {
    const ExitStatus expected{.code = 0, .signal = rank == kVictim && end == End::kKilled ? SIGKILL : 0};
    EXPECT_EQ(statuses[static_cast<std::size_t>(rank)], expected) << "rank " << rank;
  }
}

INSTANTIATE_TEST_SUITE_P(AtDispatchAndCombine, CudaLowLatencyDeath,
                         ::testing::Combine(::testing::Bool(), ::testing::Values(End::kKilled, End::kLeft),
                                            ::testing::Bool()));

}  // namespace
}  // namespace crossdock::testing
