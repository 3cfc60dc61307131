// Tensors of tests on a CUDA device.
#pragma once

#include "support/world_tensor.hpp"

namespace crossdock::testing {

/// Device 0.
class CudaPlace final : public TensorPlace {
 public:
  [[nodiscard]] Tensor place(const Tensor& tensor) const override;
  [[nodiscard]] Tensor fetch(const Tensor& tensor) const override;
  void write(const Tensor& tensor, std::span<const std::byte> bytes) const override;
};

}  // namespace crossdock::testing
