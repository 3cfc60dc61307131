// Between vectors of values and vectors of bytes.
#pragma once

#include <cstddef>
#include <cstring>
#include <vector>

namespace crossdock::testing {

template <typename T>
[[nodiscard]] std::vector<std::byte> bytes_of(const std::vector<T>& values) {
  std::vector<std::byte> result(values.size() * sizeof(T));
  if (!values.empty()) std::memcpy(result.data(), values.data(), result.size());
  return result;
}

template <typename T>
[[nodiscard]] std::vector<T> values_of(const std::vector<std::byte>& bytes) {
  std::vector<T> result(bytes.size() / sizeof(T));
  if (!result.empty()) std::memcpy(result.data(), bytes.data(), result.size() * sizeof(T));
  return result;
}

}  // namespace crossdock::testing
