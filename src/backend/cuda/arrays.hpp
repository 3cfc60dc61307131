// Arrays that kernels work on: in host memory that is pinned, and in the memory of the device.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstring>
#include <memory>

#include "backend/cuda/cuda_error.hpp"

namespace crossdock::cuda {

struct PinnedDeleter {
  void operator()(void* data) const noexcept { static_cast<void>(cudaFreeHost(data)); }
};

/// Zeroed. The same address serves the host and all devices.
template <typename T>
using PinnedArray = std::unique_ptr<T[], PinnedDeleter>;

template <typename T>
[[nodiscard]] PinnedArray<T> make_pinned(std::size_t count) {
  void* data = nullptr;
  check(cudaHostAlloc(&data, count * sizeof(T), cudaHostAllocPortable | cudaHostAllocMapped), "cudaHostAlloc");
  std::memset(data, 0, count * sizeof(T));
  return PinnedArray<T>(static_cast<T*>(data));
}

struct DeviceDeleter {
  void operator()(void* data) const noexcept { static_cast<void>(cudaFree(data)); }
};

/// Zeroed memory of the current device.
template <typename T>
using DeviceArray = std::unique_ptr<T[], DeviceDeleter>;

template <typename T>
[[nodiscard]] DeviceArray<T> make_device_array(std::size_t count) {
  void* data = nullptr;
  check(cudaMalloc(&data, count * sizeof(T)), "cudaMalloc");
  DeviceArray<T> result(static_cast<T*>(data));
  check(cudaMemset(data, 0, count * sizeof(T)), "cudaMemset");
  check(cudaDeviceSynchronize(), "cudaDeviceSynchronize");
  return result;
}

}  // namespace crossdock::cuda
