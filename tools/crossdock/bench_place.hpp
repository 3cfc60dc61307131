// Where the tensors of a benchmark's rank lie: made and checked in host memory, moved to the device and back.
#pragma once

#include <optional>

#include <crossdock/tensor.hpp>

namespace crossdock::tool {

class BenchPlace {
 public:
  /// Of a rank: on devices each has the next one, which becomes the current one of its thread.
  BenchPlace(DeviceType type, int rank);

  [[nodiscard]] Device device() const noexcept { return device_; }
  [[nodiscard]] bool is_host() const noexcept { return device_.type == DeviceType::kHost; }
  /// The same tensor there.
  [[nodiscard]] Tensor place(const Tensor& tensor) const;
  [[nodiscard]] std::optional<Tensor> place(const std::optional<Tensor>& tensor) const;
  /// The same tensor in host memory.
  [[nodiscard]] Tensor fetch(const Tensor& tensor) const;
  [[nodiscard]] std::optional<Tensor> fetch(const std::optional<Tensor>& tensor) const;
  /// Copies between tensors of equal size there.
  void copy(const Tensor& from, const Tensor& to) const;

 private:
  Device device_;
};

}  // namespace crossdock::tool
