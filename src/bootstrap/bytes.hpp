// Little-endian integers in byte strings.
#pragma once

#include <algorithm>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <span>

#include <crossdock/bootstrap.hpp>

namespace crossdock::bootstrap {

template <std::unsigned_integral T>
void append_little_endian(Bytes& out, T value) {
  for (std::size_t i = 0; i < sizeof(T); ++i) {
    out.push_back(static_cast<std::byte>((std::uint64_t{value} >> (8 * i)) & 0xFFU));
  }
}

/// REQUIRES: offset + sizeof(T) <= bytes.size()
template <std::unsigned_integral T>
[[nodiscard]] T read_little_endian(std::span<const std::byte> bytes, std::size_t offset) {
  std::uint64_t result = 0;
  for (std::size_t i = 0; i < sizeof(T); ++i) result |= std::to_integer<std::uint64_t>(bytes[offset + i]) << (8 * i);
  return static_cast<T>(result);
}

inline void append(Bytes& out, std::span<const std::byte> bytes) {
  // Not insert(): gcc 12 warns of an overflow in it that cannot happen.
  const std::size_t before = out.size();
  out.resize(before + bytes.size());
  std::copy(bytes.begin(), bytes.end(), out.begin() + static_cast<std::ptrdiff_t>(before));
}

}  // namespace crossdock::bootstrap
