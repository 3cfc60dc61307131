// Tensors of tests on a CUDA device.
#pragma once

#include "support/world_tensor.hpp"

namespace crossdock::testing {

/// Device 0.
class CudaPlace final : public TensorPlace {
 public:
  CudaPlace();
  [[nodiscard]] Tensor place(const Tensor& tensor) const override;
  [[nodiscard]] Tensor fetch(const Tensor& tensor) const override;
  void write(const Tensor& tensor, std::span<const std::byte> bytes) const override;
};

/// With a stream of its own, which does not wait for the default one: ranks that are threads must not wait for each
/// other there.
class CudaStreamPlace final : public TensorPlace {
 public:
  CudaStreamPlace();
  CudaStreamPlace(const CudaStreamPlace&) = delete;
  CudaStreamPlace& operator=(const CudaStreamPlace&) = delete;
  ~CudaStreamPlace() override;

  [[nodiscard]] Tensor place(const Tensor& tensor) const override;
  [[nodiscard]] Tensor fetch(const Tensor& tensor) const override;
  void write(const Tensor& tensor, std::span<const std::byte> bytes) const override;
  [[nodiscard]] Stream stream() const override { return {.device = {DeviceType::kCuda, 0}, .native = stream_}; }
  void synchronize() const override;

 private:
  void* stream_ = nullptr;
};

}  // namespace crossdock::testing
