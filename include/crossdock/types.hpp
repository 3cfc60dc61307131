// Small value types shared by every public header: element types, devices, streams.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

#include <crossdock/export.hpp>

namespace crossdock {

/// Element type of a tensor. Dispatch moves elements as opaque bytes; combine computes on kBfloat16 and kFloat32.
enum class DataType : std::uint8_t {
  kBool,        ///< 1 byte, 0 or 1
  kUint8,       ///< 1 byte, also for opaque payloads
  kInt8,        ///< 1 byte
  kInt32,       ///< 4 bytes
  kInt64,       ///< 8 bytes
  kFloat8E4m3,  ///< 1 byte, OCP FP8 E4M3 ("fn": finite, NaN only)
  kFloat16,     ///< 2 bytes, IEEE binary16
  kBfloat16,    ///< 2 bytes, upper half of an IEEE binary32
  kFloat32,     ///< 4 bytes, IEEE binary32
};

/// Bytes of one element.
[[nodiscard]] CROSSDOCK_EXPORT std::size_t size_of(DataType dtype) noexcept;

/// Name as users write it: "bfloat16", "float8_e4m3", ...
[[nodiscard]] CROSSDOCK_EXPORT std::string_view name_of(DataType dtype) noexcept;

enum class DeviceType : std::uint8_t { kHost, kCuda };

/// Where a tensor lives. Host memory has index 0.
struct Device {
  DeviceType type = DeviceType::kHost;
  int index = 0;

  friend bool operator==(const Device&, const Device&) = default;
};

/// The caller's stream, non-owning. On the host an operation is ordered by the calling thread itself, so the
/// default-constructed value is the only one; a device backend takes its native stream in `native`.
struct Stream {
  Device device;
  void* native = nullptr;
};

}  // namespace crossdock
