// Memory of a device that other processes of the host can map.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>

namespace crossdock::cuda {

/// An allocation, or another process's as this one sees it.
class DeviceMemory {
 public:
  /// On the current device. Throws kCapacity if there is not enough.
  explicit DeviceMemory(std::size_t bytes);
  /// Maps another process's memory for the current device.
  explicit DeviceMemory(const cudaIpcMemHandle_t& handle);
  DeviceMemory(const DeviceMemory&) = delete;
  DeviceMemory& operator=(const DeviceMemory&) = delete;
  ~DeviceMemory();

  [[nodiscard]] std::byte* data() const noexcept { return data_; }
  [[nodiscard]] cudaIpcMemHandle_t handle() const;

 private:
  std::byte* data_ = nullptr;
  int device_ = 0;
  bool is_mapped_ = false;  ///< of another process
};

}  // namespace crossdock::cuda
