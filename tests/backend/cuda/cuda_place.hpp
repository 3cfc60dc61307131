// Tensors of tests on a CUDA device.
#pragma once

#include "support/world_tensor.hpp"

namespace crossdock::testing {

/// On the device of a rank, which becomes the current one of the thread: ranks are spread over all devices.
class CudaPlace final : public TensorPlace {
 public:
  explicit CudaPlace(int rank);
  [[nodiscard]] Tensor place(const Tensor& tensor) const override;
  [[nodiscard]] Tensor fetch(const Tensor& tensor) const override;
  void write(const Tensor& tensor, std::span<const std::byte> bytes) const override;
  [[nodiscard]] Device device() const override { return device_; }

 private:
  Device device_;
};

/// The same with a stream of its own, which does not wait for the default one: ranks that are threads must not wait for
/// each other there.
class CudaStreamPlace final : public TensorPlace {
 public:
  explicit CudaStreamPlace(int rank);
  CudaStreamPlace(const CudaStreamPlace&) = delete;
  CudaStreamPlace& operator=(const CudaStreamPlace&) = delete;
  ~CudaStreamPlace() override;

  [[nodiscard]] Tensor place(const Tensor& tensor) const override;
  [[nodiscard]] Tensor fetch(const Tensor& tensor) const override;
  void write(const Tensor& tensor, std::span<const std::byte> bytes) const override;
  [[nodiscard]] Device device() const override { return device_; }
  [[nodiscard]] Stream stream() const override { return {.device = device_, .native = stream_}; }
  void synchronize() const override;

 private:
  Device device_;
  void* stream_ = nullptr;
};

}  // namespace crossdock::testing
