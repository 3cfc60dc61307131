// CUDA graphs that are destroyed after the buffer whose operations they hold.
#include <cuda_runtime_api.h>
#include <gtest/gtest.h>

#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "backend/cuda/captured_graph.hpp"
#include "backend/cuda/cuda_check.hpp"
#include "backend/cuda/cuda_place.hpp"
#include "backend/cuda/device_probe.hpp"
#include "core/low_latency_run.hpp"
#include "core/world_run.hpp"
#include "support/ranks.hpp"

namespace crossdock::testing {
namespace {

constexpr int kRanks = 2;
constexpr std::size_t kArenaBytes = std::size_t{64} << 20U;

std::size_t free_bytes() {
  std::size_t free = 0;
  std::size_t total = 0;
  check(cudaMemGetInfo(&free, &total));
  return free;
}

/// One rank: a graph of a dispatch and a combine, launched once.
void outlive_buffer(const std::shared_ptr<Bootstrap>& bootstrap) {
  const CudaStreamPlace place(bootstrap->rank());
  BufferOptions options = on_device_of(place, {});
  options.arena_bytes = kArenaBytes;
  std::optional<Buffer> buffer(std::in_place, bootstrap, options);
  DispatchInput input;
  input.topk_idx = place.place(make_matrix<std::int64_t>(DataType::kInt64, 1, std::vector<std::int64_t>{0, 1}));
  input.topk_weights = place.place(make_matrix<float>(DataType::kFloat32, 1, std::vector<float>{1, 1}));
  input.x = *input.topk_weights;
  input.num_experts = kRanks;
  input.num_worst_tokens = 2 * kRanks;
  OperationOptions how;
  how.stream = place.stream();
  how.completion = Completion::kStream;
  const auto capture = [&] {
    const DispatchOutput dispatched = buffer->dispatch(input, how);
    static_cast<void>(buffer->combine({.x = dispatched.recv_x, .handle = dispatched.handle}, how));
  };
  const CapturedGraph graph(place, capture, [&] { bootstrap->barrier(Milliseconds(30'000)); });
  graph.launch();
  place.synchronize();
  buffer->destroy();
  buffer.reset();
}

TEST(CudaGraphs, GiveBackMemoryWhenTheyOutliveTheirBuffer) {
  if (const std::string reason = why_no_cuda_device(); !reason.empty()) GTEST_SKIP() << reason;
  run_as_threads(kRanks, outlive_buffer);  // what CUDA takes once
  std::this_thread::sleep_for(std::chrono::seconds(1));
  const std::size_t before = free_bytes();
  constexpr int kTimes = 4;
  for (int i = 0; i < kTimes; ++i) run_as_threads(kRanks, outlive_buffer);
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(10);
  while (free_bytes() + kArenaBytes < before && std::chrono::steady_clock::now() < end) {
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  EXPECT_GE(free_bytes() + kArenaBytes, before);
}

}  // namespace
}  // namespace crossdock::testing
