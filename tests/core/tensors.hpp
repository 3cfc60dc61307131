// Tensors of tests that own their memory.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <memory>
#include <span>
#include <vector>

#include <crossdock/tensor.hpp>

namespace crossdock::testing {

/// Zeroed, with `slack` more elements behind the last one, for strides that need them.
[[nodiscard]] inline Tensor make_tensor(DataType dtype, std::initializer_list<std::int64_t> shape,
                                        std::int64_t slack = 0) {
  std::int64_t elements = 1;
  for (const std::int64_t extent : shape) elements *= extent;
  // Words, so that the memory is aligned for every type; one more, so that it is never null.
  const auto bytes = static_cast<std::size_t>(elements + slack) * size_of(dtype);
  auto memory = std::make_shared<std::vector<std::uint64_t>>(bytes / sizeof(std::uint64_t) + 1);
  void* data = memory->data();
  return Tensor::own(std::move(memory), data, dtype, std::span(shape.begin(), shape.size()));
}

inline void set_id(const Tensor& ids, std::int64_t at, std::int64_t id) {
  if (ids.dtype() == DataType::kInt64) {
    ids.data_as<std::int64_t>()[at] = id;
  } else {
    ids.data_as<std::int32_t>()[at] = static_cast<std::int32_t>(id);
  }
}

}  // namespace crossdock::testing
