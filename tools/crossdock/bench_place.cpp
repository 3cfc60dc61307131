#include "crossdock/bench_place.hpp"

#include <cstring>

#include "backend/cuda/factory.hpp"

namespace crossdock::tool {

BenchPlace::BenchPlace(DeviceType type, int rank)
    : device_(type == DeviceType::kHost ? Device{} : cuda::use_device_of(rank)) {}

Tensor BenchPlace::place(const Tensor& tensor) const {
  return is_host() ? tensor : cuda::copy_to_device(tensor, device_);
}

std::optional<Tensor> BenchPlace::place(const std::optional<Tensor>& tensor) const {
  return tensor ? std::optional(place(*tensor)) : std::nullopt;
}

Tensor BenchPlace::fetch(const Tensor& tensor) const { return is_host() ? tensor : cuda::copy_to_host(tensor); }

std::optional<Tensor> BenchPlace::fetch(const std::optional<Tensor>& tensor) const {
  return tensor ? std::optional(fetch(*tensor)) : std::nullopt;
}

void BenchPlace::copy(const Tensor& from, const Tensor& to) const {
  if (from.num_bytes() == 0) return;
  if (is_host()) {
    std::memcpy(to.data(), from.data(), from.num_bytes());
  } else {
    cuda::copy_on_device(from, to);
  }
}

}  // namespace crossdock::tool
