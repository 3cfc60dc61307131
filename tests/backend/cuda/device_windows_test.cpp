// Ranks that are processes, threads, or both see each other's memory, however it is shared.
#include <cuda_runtime_api.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <stdexcept>
#include <string>
#include <vector>

#include "backend/cuda/cuda_check.hpp"
#include "backend/cuda/device_probe.hpp"
#include "backend/cuda/device_windows.hpp"
#include "backend/cuda/factory.hpp"
#include "support/ranks.hpp"

namespace crossdock::testing {
namespace {

constexpr int kRanks = 3;
constexpr std::size_t kControlBytes = 4096;
constexpr std::size_t kArenaBytes = std::size_t{3} << 20U;
constexpr Milliseconds kTimeout{20'000};

std::uint32_t value(int writer, int owner) { return static_cast<std::uint32_t>(1000 + 10 * writer + owner); }

/// Each rank writes into every window; then each finds in its own what the others wrote, and in theirs what they have.
void exchange(Bootstrap& bootstrap, cuda::Sharing sharing) {
  const int device = cuda::use_device_of(bootstrap.rank()).index;
  const cuda::DeviceGroup group =
      cuda::exchange_device_windows(bootstrap, device, {kControlBytes, kArenaBytes}, Deadline(kTimeout), sharing);
  const auto place = [&](int owner, int writer) {
    return group.windows[static_cast<std::size_t>(owner)]->data() + kControlBytes + kArenaBytes -
           (static_cast<std::size_t>(writer) + 1) * sizeof(std::uint32_t);
  };
  for (int owner = 0; owner < bootstrap.size(); ++owner) {
    const std::uint32_t mine = value(bootstrap.rank(), owner);
    check(cudaMemcpy(place(owner, bootstrap.rank()), &mine, sizeof(mine), cudaMemcpyHostToDevice));
  }
  check(cudaDeviceSynchronize());
  bootstrap.barrier(kTimeout);
  for (int owner = 0; owner < bootstrap.size(); ++owner) {
    for (int writer = 0; writer < bootstrap.size(); ++writer) {
      std::uint32_t got = 0;
      check(cudaMemcpy(&got, place(owner, writer), sizeof(got), cudaMemcpyDeviceToHost));
      if (got != value(writer, owner)) throw std::runtime_error("a window holds " + std::to_string(got));
    }
  }
  int num_devices = 0;
  check(cudaGetDeviceCount(&num_devices));
  const auto on_device = [&](int index) { return (bootstrap.size() - index + num_devices - 1) / num_devices; };
  if (group.num_sharers != on_device(device) || group.most_sharers != on_device(0)) {
    throw std::runtime_error("ranks that share the device were miscounted");
  }
  bootstrap.barrier(kTimeout);
}

class CudaWindows : public ::testing::TestWithParam<cuda::Sharing> {};

TEST_P(CudaWindows, AreSeenByOtherProcesses) {
  if (const std::string reason = why_no_cuda_device(); !reason.empty()) GTEST_SKIP() << reason;
  const auto statuses =
      run_as_processes(kRanks, [](const std::shared_ptr<Bootstrap>& bootstrap) { exchange(*bootstrap, GetParam()); });
  for (const ExitStatus& status : statuses) EXPECT_EQ(status, ExitStatus{});
}

TEST_P(CudaWindows, AreSeenByOtherThreads) {
  if (const std::string reason = why_no_cuda_device(); !reason.empty()) GTEST_SKIP() << reason;
  // In a process of its own: CUDA does not survive the fork of the other test.
  const auto statuses = run_as_processes(1, [](const std::shared_ptr<Bootstrap>&) {
    run_as_threads(kRanks, [](const std::shared_ptr<Bootstrap>& bootstrap) { exchange(*bootstrap, GetParam()); });
  });
  for (const ExitStatus& status : statuses) EXPECT_EQ(status, ExitStatus{});
}

std::string name_of(const ::testing::TestParamInfo<cuda::Sharing>& test) {
  switch (test.param) {
    case cuda::Sharing::kAny: return "Any";
    case cuda::Sharing::kIpc: return "Ipc";
    case cuda::Sharing::kFileDescriptors: return "FileDescriptors";
  }
  return "Unknown";
}

INSTANTIATE_TEST_SUITE_P(EachWay, CudaWindows,
                         ::testing::Values(cuda::Sharing::kAny, cuda::Sharing::kIpc, cuda::Sharing::kFileDescriptors),
                         name_of);

}  // namespace
}  // namespace crossdock::testing
