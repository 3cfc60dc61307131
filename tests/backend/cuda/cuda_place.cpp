#include "backend/cuda/cuda_place.hpp"

#include <cuda_runtime_api.h>

#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

namespace crossdock::testing {

namespace {

constexpr std::size_t kWordBytes = 16;
constexpr Device kDevice{DeviceType::kCuda, 0};

void check(cudaError_t error) {
  if (error != cudaSuccess) throw std::runtime_error(std::string("CUDA: ") + cudaGetErrorString(error));
}

/// Bytes from the first element to the last.
std::size_t extent_bytes(const Tensor& tensor) {
  std::int64_t last = 0;
  for (int d = 0; d < tensor.dimensions(); ++d) last += (tensor.size(d) - 1) * tensor.stride(d);
  return tensor.num_elements() == 0 ? 0 : static_cast<std::size_t>(last + 1) * size_of(tensor.dtype());
}

Tensor with_strides_of(const Tensor& tensor, const Tensor& model) {
  if (model.dimensions() == 1) return tensor.with_strides({model.stride(0)});
  return tensor.with_strides({model.stride(0), model.stride(1)});
}

}  // namespace

Tensor CudaPlace::place(const Tensor& tensor) const {
  const std::size_t bytes = extent_bytes(tensor);
  if (bytes == 0) {
    return with_strides_of(Tensor::own(nullptr, nullptr, tensor.dtype(), tensor.shape(), kDevice), tensor);
  }
  const std::size_t offset = reinterpret_cast<std::uintptr_t>(tensor.data()) % kWordBytes;
  void* memory = nullptr;
  check(cudaMallocAsync(&memory, bytes + offset, nullptr));
  std::shared_ptr<void> owner(memory, [](void* m) { static_cast<void>(cudaFreeAsync(m, nullptr)); });
  void* const data = static_cast<std::byte*>(memory) + offset;
  check(cudaMemcpy(data, tensor.data(), bytes, cudaMemcpyHostToDevice));
  return with_strides_of(Tensor::own(std::move(owner), data, tensor.dtype(), tensor.shape(), kDevice), tensor);
}

Tensor CudaPlace::fetch(const Tensor& tensor) const {
  if (tensor.device() != kDevice) return tensor;
  auto memory = std::make_shared<std::vector<std::byte>>(tensor.num_bytes() + 1);
  check(cudaMemcpy(memory->data(), tensor.data(), tensor.num_bytes(), cudaMemcpyDeviceToHost));
  std::byte* const data = memory->data();
  return Tensor::own(std::move(memory), data, tensor.dtype(), tensor.shape());
}

void CudaPlace::write(const Tensor& tensor, std::span<const std::byte> bytes) const {
  check(cudaMemcpy(tensor.data(), bytes.data(), bytes.size(), cudaMemcpyHostToDevice));
}

}  // namespace crossdock::testing
