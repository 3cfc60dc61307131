#include <crossdock/tensor.hpp>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "base/error.hpp"

namespace crossdock {

Tensor Tensor::own(std::shared_ptr<void> owner, void* data, DataType dtype, std::span<const std::int64_t> shape,
                   Device device) {
  require(!shape.empty() && shape.size() <= kMaxDimensions, "a tensor has 1 to {} dimensions, not {}", kMaxDimensions,
          shape.size());
  Tensor result;
  result.owner_ = std::move(owner);
  result.data_ = data;
  result.dtype_ = dtype;
  result.device_ = device;
  result.dimensions_ = static_cast<int>(shape.size());
  std::int64_t stride = 1;
  for (std::size_t d = shape.size(); d-- > 0;) {
    require(shape[d] >= 0, "extent {} of a tensor's dimension {} is negative", shape[d], d);
    result.shape_[d] = shape[d];
    result.strides_[d] = stride;
    stride *= shape[d] > 0 ? shape[d] : 1;
  }
  require(data != nullptr || result.num_elements() == 0, "null data for a {} tensor with elements", result);
  return result;
}

Tensor Tensor::borrow(void* data, DataType dtype, std::span<const std::int64_t> shape, Device device) {
  return own(nullptr, data, dtype, shape, device);
}

Tensor Tensor::borrow(void* data, DataType dtype, std::initializer_list<std::int64_t> shape, Device device) {
  return own(nullptr, data, dtype, std::span<const std::int64_t>(shape.begin(), shape.size()), device);
}

Tensor Tensor::borrow(const void* data, DataType dtype, std::initializer_list<std::int64_t> shape, Device device) {
  return borrow(const_cast<void*>(data), dtype, shape, device);  // NOLINT: inputs are never written
}

Tensor Tensor::with_strides(std::initializer_list<std::int64_t> strides) const {
  require(strides.size() == shape().size(), "{} strides for a tensor {}", strides.size(), *this);
  Tensor result = *this;
  std::size_t d = 0;
  for (const std::int64_t stride : strides) {
    require(stride >= 0, "stride {} of a tensor's dimension {} is negative", stride, d);
    result.strides_[d++] = stride;
  }
  return result;
}

Tensor Tensor::first(std::int64_t count) const {
  require(defined() && count >= 0 && count <= size(0), "the first {} entries of a tensor {}", count, *this);
  Tensor result = *this;
  result.shape_[0] = count;
  return result;
}

std::int64_t Tensor::num_elements() const noexcept {
  if (!defined()) return 0;
  std::int64_t result = 1;
  for (const std::int64_t extent : shape()) result *= extent;
  return result;
}

std::size_t Tensor::num_bytes() const noexcept { return static_cast<std::size_t>(num_elements()) * size_of(dtype_); }

bool Tensor::is_contiguous() const noexcept {
  if (num_elements() == 0) return true;  // whatever its strides: frameworks make it so
  std::int64_t expected = 1;
  for (int d = dimensions_ - 1; d >= 0; --d) {
    if (size(d) != 1 && stride(d) != expected) return false;
    expected *= size(d);
  }
  return true;
}

std::string Tensor::description() const { return fmt::format("{} [{}]", name_of(dtype_), fmt::join(shape(), ", ")); }

}  // namespace crossdock
