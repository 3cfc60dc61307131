// A rank that is killed: the others get kPeerLost, and their device works on; or they go on without it.
#include <cuda_runtime_api.h>
#include <gtest/gtest.h>

#include <chrono>
#include <csignal>
#include <stdexcept>
#include <string>
#include <vector>

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

/// The same with a worst case and BufferOptions::mask_lost_ranks: no host waits for the operations.
void go_on_without_host(const std::shared_ptr<Bootstrap>& bootstrap) {
  const CudaStreamPlace place(bootstrap->rank());
  BufferOptions options = buffer_options_for(kRanks);
  options.mask_lost_ranks = true;
  Buffer buffer(bootstrap, on_device_of(place, options));
  DispatchInput input = make_input(place);
  input.num_worst_tokens = input.x.size(0) * kRanks;
  const OperationOptions on_stream{.completion = Completion::kStream, .stream = place.stream()};
  const auto num_received = [&] { return buffer.dispatch(input, on_stream).handle.num_recv_tokens(); };
  const std::int64_t before = num_received();
  if (bootstrap->rank() == kVictim) ::raise(SIGKILL);
  const std::int64_t after = num_received();
  if (buffer.masked_ranks() != std::vector<int>{kVictim}) throw std::runtime_error("the victim is not masked");
  if (after * kRanks != before * (kRanks - 1)) throw std::runtime_error("not the rows of those that are left");
}

void expect_victim_only(const std::vector<ExitStatus>& statuses) {
  for (int rank = 0; rank < kRanks; ++rank) {
    const ExitStatus expected{.code = 0, .signal = rank == kVictim ? SIGKILL : 0};
    EXPECT_EQ(statuses[static_cast<std::size_t>(rank)], expected) << "rank " << rank;
  }
}

TEST(CudaPeerDeath, OthersLoseThePeerAndKeepTheDevice) {
  if (const std::string reason = why_no_cuda_device(); !reason.empty()) GTEST_SKIP() << reason;
  expect_victim_only(run_as_processes(kRanks, run_rank));
}

TEST(CudaPeerDeath, OthersGoOnWithoutThePeerAndTheHost) {
  if (const std::string reason = why_no_cuda_device(); !reason.empty()) GTEST_SKIP() << reason;
  const auto begin = std::chrono::steady_clock::now();
  expect_victim_only(run_as_processes(kRanks, go_on_without_host));
  EXPECT_LT(std::chrono::steady_clock::now() - begin, buffer_options_for(kRanks).timeout) << "found by the deadline";
}

}  // namespace
}  // namespace crossdock::testing
