// A rank that is killed: the others get kPeerLost, and their device works on.
#include <cuda_runtime_api.h>
#include <gtest/gtest.h>

#include <csignal>
#include <stdexcept>
#include <string>

#include <crossdock/buffer.hpp>
#include <crossdock/error.hpp>

#include "backend/cuda/cuda_place.hpp"
#include "backend/cuda/device_probe.hpp"
#include "core/world_run.hpp"
#include "support/ranks.hpp"

namespace crossdock::testing {
namespace {

constexpr int kRanks = 3;
constexpr int kVictim = 2;

DispatchInput make_input(const TensorPlace& place) {
  constexpr std::int64_t kTokens = 64;
  constexpr std::int64_t kHidden = 256;
  std::vector<std::int64_t> ids;
  for (std::int64_t t = 0; t < kTokens; ++t) ids.push_back(t % kRanks);
  DispatchInput input;
  input.x = place.place(make_matrix<std::int32_t>(DataType::kInt32, kHidden,
                                                  std::vector<std::int32_t>(std::size_t{kTokens} * kHidden, 7)));
  input.topk_idx = place.place(make_matrix<std::int64_t>(DataType::kInt64, 1, ids));
  input.topk_weights = place.place(make_matrix<float>(DataType::kFloat32, 1, std::vector<float>(kTokens, 1.0F)));
  input.num_experts = kRanks;
  return input;
}

void run_rank(const std::shared_ptr<Bootstrap>& bootstrap) {
  const CudaPlace place(bootstrap->rank());
  Buffer buffer(bootstrap, on_device_of(place, buffer_options_for(kRanks)));
  const DispatchInput input = make_input(place);
  static_cast<void>(buffer.dispatch(input));
  if (bootstrap->rank() == kVictim) ::raise(SIGKILL);
  try {
    static_cast<void>(buffer.dispatch(input));
    throw std::runtime_error("a dispatch without a rank that was killed came to its end");
  } catch (const Error& error) {
    if (error.code() != ErrorCode::kPeerLost) throw;
  }
  const cudaError_t state = cudaMemset(input.x.data(), 0, input.x.num_bytes());
  if (state != cudaSuccess) throw std::runtime_error(std::string("the device: ") + cudaGetErrorString(state));
}

TEST(CudaPeerDeath, OthersLoseThePeerAndKeepTheDevice) {
  if (const std::string reason = why_no_cuda_device(); !reason.empty()) GTEST_SKIP() << reason;
  const auto statuses = run_as_processes(kRanks, run_rank);
  for (int rank = 0; rank < kRanks; ++rank) {
    const ExitStatus expected{.code = 0, .signal = rank == kVictim ? SIGKILL : 0};
    EXPECT_EQ(statuses[static_cast<std::size_t>(rank)], expected) << "rank " << rank;
  }
}

}  // namespace
}  // namespace crossdock::testing
