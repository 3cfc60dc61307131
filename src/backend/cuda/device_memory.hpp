// Memory of a device that other processes of the host can map.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>

#include "backend/cuda/virtual_memory.hpp"

namespace crossdock::cuda {

/// An allocation, or another process's as this one sees it.
class DeviceMemory {
 public:
  /// On the current device. Throws kCapacity if there is not enough.
  explicit DeviceMemory(std::size_t bytes);
  /// Maps another process's memory for the current device.
  explicit DeviceMemory(const cudaIpcMemHandle_t& handle);
  /// Owns what the current device may use.
  explicit DeviceMemory(const VirtualMemory& memory) noexcept;
  DeviceMemory(const DeviceMemory&) = delete;
  DeviceMemory& operator=(const DeviceMemory&) = delete;
  ~DeviceMemory();

  [[nodiscard]] std::byte* data() const noexcept { return data_; }
  /// For kernels of another device of this process, besides what lets devices reach each other's memory in general.
  void let_reach(int device) const;
  /// REQUIRES: allocated by this class. Throws kUnsupported or kSystem where CUDA IPC does not work.
  [[nodiscard]] cudaIpcMemHandle_t handle() const;

 private:
  enum class Kind { kAllocated, kMapped, kVirtual };

  std::byte* data_ = nullptr;
  int device_ = 0;
  Kind kind_ = Kind::kAllocated;
  VirtualMemory virtual_;
};

}  // namespace crossdock::cuda
