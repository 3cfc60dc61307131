// Copies for tools and tests.
#include <memory>
#include <vector>

#include "backend/cuda/cuda_error.hpp"
#include "backend/cuda/device_guard.hpp"
#include "backend/cuda/factory.hpp"

namespace crossdock::cuda {

Tensor copy_to_device(const Tensor& tensor, Device device) {
  const DeviceGuard guard(device.index);
  void* memory = nullptr;
  check(cudaMalloc(&memory, std::max<std::size_t>(tensor.num_bytes(), 1)), "cudaMalloc of a copy");
  std::shared_ptr<void> owner(memory, [](void* data) { static_cast<void>(cudaFree(data)); });
  check(cudaMemcpy(memory, tensor.data(), tensor.num_bytes(), cudaMemcpyHostToDevice), "a copy to the device");
  return Tensor::own(std::move(owner), memory, tensor.dtype(), tensor.shape(), device);
}

Tensor copy_to_host(const Tensor& tensor) {
  const DeviceGuard guard(tensor.device().index);
  auto memory = std::make_shared<std::vector<std::byte>>(std::max<std::size_t>(tensor.num_bytes(), 1));
  check(cudaMemcpy(memory->data(), tensor.data(), tensor.num_bytes(), cudaMemcpyDeviceToHost), "a copy to the host");
  std::byte* const data = memory->data();
  return Tensor::own(std::move(memory), data, tensor.dtype(), tensor.shape());
}

void copy_on_device(const Tensor& from, const Tensor& to) {
  const DeviceGuard guard(from.device().index);
  check(cudaMemcpy(to.data(), from.data(), from.num_bytes(), cudaMemcpyDeviceToDevice), "a copy on the device");
  check(cudaDeviceSynchronize(), "a copy on the device");
}

}  // namespace crossdock::cuda
