#include <cuda_runtime_api.h>
#include <fmt/format.h>

#include "backend/cuda/cuda_error.hpp"
#include "backend/cuda/device_guard.hpp"
#include "backend/cuda/factory.hpp"
#include "backend/cuda/virtual_memory.hpp"
#include "base/error.hpp"

namespace crossdock::cuda {

namespace {

int attribute(cudaDeviceAttr which, int device) {
  int value = 0;
  check(cudaDeviceGetAttribute(&value, which, device), "cudaDeviceGetAttribute");
  return value;
}

std::string describe(int device, int driver) {
  cudaDeviceProp properties{};
  check(cudaGetDeviceProperties(&properties, device), "cudaGetDeviceProperties");
  const bool has_mps = attribute(cudaDevAttrMpsEnabled, device) != 0;
  return fmt::format(
      "device {}: {}, {} multiprocessors, {:.0f} GiB, compute capability {}.{}, driver for CUDA {}.{}; {}; {}", device,
      properties.name, properties.multiProcessorCount,
      static_cast<double>(properties.totalGlobalMem) / static_cast<double>(std::size_t{1} << 30U), properties.major,
      properties.minor, driver / 1000, driver % 1000 / 10,
      has_mps ? "under MPS" : "without MPS, so that processes that share it take turns",
      offers_virtual_memory(device) ? "memory is shared by CUDA IPC or by file descriptors"
                                    : "memory is shared by CUDA IPC only");
}

}  // namespace

std::vector<std::string> describe_devices() {
  int count = 0;
  if (const cudaError_t error = cudaGetDeviceCount(&count); error != cudaSuccess) {
    throw make_error(ErrorCode::kUnsupported, "built, but CUDA does not work here: {}", cudaGetErrorString(error));
  }
  int driver = 0;
  check(cudaDriverGetVersion(&driver), "cudaDriverGetVersion");
  std::vector<std::string> lines;
  lines.reserve(static_cast<std::size_t>(count));
  for (int device = 0; device < count; ++device) lines.push_back(describe(device, driver));
  for (int from = 0; from < count; ++from) {
    for (int to = 0; to < count; ++to) {
      int can_reach = 1;
      if (from != to) check(cudaDeviceCanAccessPeer(&can_reach, from, to), "cudaDeviceCanAccessPeer");
      if (can_reach == 0) lines.push_back(fmt::format("device {} cannot reach the memory of device {}", from, to));
    }
  }
  return lines;
}

Device use_device_of(int rank) {
  int count = 0;
  const cudaError_t error = cudaGetDeviceCount(&count);
  if (error != cudaSuccess || count == 0) {
    throw make_error(ErrorCode::kUnsupported, "there is no CUDA device for rank {}: {}", rank,
                     cudaGetErrorString(error));
  }
  use_device(rank % count);
  return {DeviceType::kCuda, rank % count};
}

}  // namespace crossdock::cuda
