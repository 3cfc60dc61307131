#include "backend/cuda/cuda_place.hpp"

#include <cuda_runtime_api.h>

#include <cstdint>
#include <limits>
#include <memory>
#include <vector>

#include "backend/cuda/cuda_check.hpp"
#include "backend/cuda/factory.hpp"

namespace crossdock::testing {

namespace {

constexpr std::size_t kWordBytes = 16;

/// Bytes from the first element to the last.
std::size_t extent_bytes(const Tensor& tensor) {
  std::int64_t last = 0;
  for (int d = 0; d < tensor.dimensions(); ++d) last += (tensor.size(d) - 1) * tensor.stride(d);
  return tensor.num_elements() == 0 ? 0 : static_cast<std::size_t>(last + 1) * size_of(tensor.dtype());
}

Tensor with_strides_of(const Tensor& tensor, const Tensor& model) {
  if (model.dimensions() == 1) return tensor.with_strides({model.stride(0)});
  if (model.dimensions() == 3) return tensor.with_strides({model.stride(0), model.stride(1), model.stride(2)});
  return tensor.with_strides({model.stride(0), model.stride(1)});
}

/// The same tensor on the device, which is the current one, written in the order of the stream.
Tensor place_on(Device device, cudaStream_t stream, const Tensor& tensor) {
  const std::size_t bytes = extent_bytes(tensor);
  if (bytes == 0) {
    return with_strides_of(Tensor::own(nullptr, nullptr, tensor.dtype(), tensor.shape(), device), tensor);
  }
  const std::size_t offset = reinterpret_cast<std::uintptr_t>(tensor.data()) % kWordBytes;
  void* memory = nullptr;
  check(cudaMallocAsync(&memory, bytes + offset, stream));
  std::shared_ptr<void> owner(memory, [stream](void* m) { static_cast<void>(cudaFreeAsync(m, stream)); });
  void* const data = static_cast<std::byte*>(memory) + offset;
  check(cudaMemcpyAsync(data, tensor.data(), bytes, cudaMemcpyHostToDevice, stream));
  check(cudaStreamSynchronize(stream));
  return with_strides_of(Tensor::own(std::move(owner), data, tensor.dtype(), tensor.shape(), device), tensor);
}

Tensor fetch_on(cudaStream_t stream, const Tensor& tensor) {
  if (tensor.device().type == DeviceType::kHost) return tensor;
  auto memory = std::make_shared<std::vector<std::byte>>(tensor.num_bytes() + 1);
  if (tensor.num_bytes() > 0) {
    check(cudaMemcpyAsync(memory->data(), tensor.data(), tensor.num_bytes(), cudaMemcpyDeviceToHost, stream));
    check(cudaStreamSynchronize(stream));
  }
  std::byte* const data = memory->data();
  return Tensor::own(std::move(memory), data, tensor.dtype(), tensor.shape());
}

void write_on(cudaStream_t stream, const Tensor& tensor, std::span<const std::byte> bytes) {
  check(cudaMemcpyAsync(tensor.data(), bytes.data(), bytes.size(), cudaMemcpyHostToDevice, stream));
  check(cudaStreamSynchronize(stream));
}

/// Giving memory back to the system waits for the device, so for kernels of other ranks that may wait for this one.
void keep_freed_memory(Device device) {
  cudaMemPool_t pool = nullptr;
  check(cudaDeviceGetDefaultMemPool(&pool, device.index));
  auto keep = std::numeric_limits<std::uint64_t>::max();
  check(cudaMemPoolSetAttribute(pool, cudaMemPoolAttrReleaseThreshold, &keep));
}

cudaStream_t native(void* stream) { return static_cast<cudaStream_t>(stream); }

}  // namespace

CudaPlace::CudaPlace(int rank) : device_(cuda::use_device_of(rank)) { keep_freed_memory(device_); }
Tensor CudaPlace::place(const Tensor& tensor) const { return place_on(device_, nullptr, tensor); }
Tensor CudaPlace::fetch(const Tensor& tensor) const { return fetch_on(nullptr, tensor); }
void CudaPlace::write(const Tensor& tensor, std::span<const std::byte> bytes) const {
  write_on(nullptr, tensor, bytes);
}

CudaStreamPlace::CudaStreamPlace(int rank) : device_(cuda::use_device_of(rank)) {
  cudaStream_t stream = nullptr;
  check(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
  keep_freed_memory(device_);
  stream_ = stream;
}
CudaStreamPlace::~CudaStreamPlace() { static_cast<void>(cudaStreamDestroy(native(stream_))); }
Tensor CudaStreamPlace::place(const Tensor& tensor) const { return place_on(device_, native(stream_), tensor); }
Tensor CudaStreamPlace::fetch(const Tensor& tensor) const { return fetch_on(native(stream_), tensor); }
void CudaStreamPlace::write(const Tensor& tensor, std::span<const std::byte> bytes) const {
  write_on(native(stream_), tensor, bytes);
}
void CudaStreamPlace::synchronize() const { check(cudaStreamSynchronize(native(stream_))); }

}  // namespace crossdock::testing
