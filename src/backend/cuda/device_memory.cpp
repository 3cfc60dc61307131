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

DeviceMemory::DeviceMemory(const VirtualMemory& memory) noexcept
    : data_(memory.data), kind_(Kind::kVirtual), virtual_(memory) {
  static_cast<void>(cudaGetDevice(&device_));
}

DeviceMemory::~DeviceMemory() {
  int previous = 0;
  static_cast<void>(cudaGetDevice(&previous));
  static_cast<void>(cudaSetDevice(device_));
  switch (kind_) {
    case Kind::kAllocated: static_cast<void>(cudaFree(data_)); break;
    case Kind::kMapped: static_cast<void>(cudaIpcCloseMemHandle(data_)); break;
    case Kind::kVirtual:
      static_cast<void>(cudaDeviceSynchronize());  // unmapping, unlike cudaFree, need not wait for kernels that use it
      release_virtual_memory(virtual_);
      break;
  }
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
