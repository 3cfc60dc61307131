// A strided view of memory with an optional owner: the only form in which data enters and leaves crossdock.
#pragma once

#include <array>
#include <cstdint>
#include <initializer_list>
#include <memory>
#include <span>
#include <string>

#include <crossdock/export.hpp>
#include <crossdock/types.hpp>

namespace crossdock {

/// Pointer, element type, shape, strides, device and (perhaps) an owner that keeps the memory alive.
///
/// A tensor made by `borrow` has no owner: the caller keeps the memory alive until every operation that got it has
/// finished (for an asynchronous one: until its event has completed). Tensors that crossdock returns own their memory:
/// a received tensor is a slab of the buffer's arena and the slab is given back when the last copy of the tensor dies.
/// Copies are cheap and share the memory. crossdock never writes to an input tensor.
/// Thread safety: as std::shared_ptr; distinct objects may be used from distinct threads.
class CROSSDOCK_EXPORT Tensor {
 public:
  static constexpr int kMaxDimensions = 4;

  /// No tensor: no memory, zero dimensions, `defined()` is false.
  Tensor() = default;

  /// Row-major view of caller-owned memory. `data` may be null only if the tensor has no elements.
  /// Throws kInvalidArgument for a negative extent, more than kMaxDimensions, or null data with elements.
  [[nodiscard]] static Tensor borrow(void* data, DataType dtype, std::span<const std::int64_t> shape,
                                     Device device = {});
  [[nodiscard]] static Tensor borrow(void* data, DataType dtype, std::initializer_list<std::int64_t> shape,
                                     Device device = {});
  /// The same for memory that is only read.
  [[nodiscard]] static Tensor borrow(const void* data, DataType dtype, std::initializer_list<std::int64_t> shape,
                                     Device device = {});
  /// Row-major view kept alive by `owner`.
  [[nodiscard]] static Tensor own(std::shared_ptr<void> owner, void* data, DataType dtype,
                                  std::span<const std::int64_t> shape, Device device = {});

  /// The same memory with other strides (in elements, one per dimension, not negative).
  [[nodiscard]] Tensor with_strides(std::initializer_list<std::int64_t> strides) const;
  /// The first `count` entries along dimension 0; shares memory and owner.
  [[nodiscard]] Tensor first(std::int64_t count) const;

  [[nodiscard]] bool defined() const noexcept { return dimensions_ > 0; }
  [[nodiscard]] void* data() const noexcept { return data_; }
  template <typename T>
  [[nodiscard]] T* data_as() const noexcept {
    return static_cast<T*>(data_);
  }
  [[nodiscard]] DataType dtype() const noexcept { return dtype_; }
  [[nodiscard]] Device device() const noexcept { return device_; }
  [[nodiscard]] int dimensions() const noexcept { return dimensions_; }
  [[nodiscard]] std::int64_t size(int dimension) const noexcept { return shape_[static_cast<std::size_t>(dimension)]; }
  [[nodiscard]] std::int64_t stride(int dimension) const noexcept {
    return strides_[static_cast<std::size_t>(dimension)];
  }
  [[nodiscard]] std::span<const std::int64_t> shape() const noexcept {
    return {shape_.data(), static_cast<std::size_t>(dimensions_)};
  }
  [[nodiscard]] std::int64_t num_elements() const noexcept;
  [[nodiscard]] std::size_t num_bytes() const noexcept;
  [[nodiscard]] bool is_contiguous() const noexcept;
  [[nodiscard]] const std::shared_ptr<void>& owner() const noexcept { return owner_; }
  /// "bfloat16 [4096, 7168]", for messages.
  [[nodiscard]] std::string description() const;

 private:
  std::shared_ptr<void> owner_;
  void* data_ = nullptr;
  std::array<std::int64_t, kMaxDimensions> shape_{};
  std::array<std::int64_t, kMaxDimensions> strides_{};
  Device device_;
  int dimensions_ = 0;
  DataType dtype_ = DataType::kUint8;
};

}  // namespace crossdock
