#include "backend/cuda/device_memory.hpp"

#include "backend/cuda/cuda_error.hpp"

namespace crossdock::cuda {

namespace {

/// Smaller allocations share a block, and a handle names the whole block.
constexpr std::size_t kBlockBytes = std::size_t{2} << 20U;

}  // namespace

DeviceMemory::DeviceMemory(std::size_t bytes) {
  check(cudaGetDevice(&device_), "cudaGetDevice");
  void* data = nullptr;
  const std::size_t rounded = (bytes + kBlockBytes - 1) / kBlockBytes * kBlockBytes;
  check(cudaMalloc(&data, rounded), "cudaMalloc of an arena");
  data_ = static_cast<std::byte*>(data);
}

DeviceMemory::DeviceMemory(const cudaIpcMemHandle_t& handle) : kind_(Kind::kMapped) {
  check(cudaGetDevice(&device_), "cudaGetDevice");
  void* data = nullptr;
  check(cudaIpcOpenMemHandle(&data, handle, cudaIpcMemLazyEnablePeerAccess), "cudaIpcOpenMemHandle of a peer's arena");
  data_ = static_cast<std::byte*>(data);
}

DeviceMemory::~DeviceMemory() {
  if (kind_ == Kind::kVirtual) {
    release_virtual_memory(virtual_);
    return;
  }
  int previous = 0;
  static_cast<void>(cudaGetDevice(&previous));
  static_cast<void>(cudaSetDevice(device_));
  static_cast<void>(kind_ == Kind::kMapped ? cudaIpcCloseMemHandle(data_) : cudaFree(data_));
  static_cast<void>(cudaSetDevice(previous));
}

void DeviceMemory::let_reach(int device) const {
  if (kind_ == Kind::kVirtual) let_virtual_memory_reach(device, virtual_);
}

cudaIpcMemHandle_t DeviceMemory::handle() const {
  cudaIpcMemHandle_t handle{};
  check(cudaIpcGetMemHandle(&handle, data_), "cudaIpcGetMemHandle of an arena");
  return handle;
}

}  // namespace crossdock::cuda
