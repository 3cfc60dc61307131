#include "device.hpp"

#include <charconv>
#include <cstdint>
#include <string_view>

#include <nanobind/nanobind.h>

#include <crossdock/error.hpp>

namespace crossdock::python {

namespace nb = nanobind;

namespace {

constexpr std::string_view kCuda = "cuda";

[[noreturn]] void refuse(std::string_view name) {
  throw Error(ErrorCode::kInvalidArgument,
              "device is \"" + std::string(name) + R"(", allowed are "cpu", "cuda", "cuda:0", "cuda:1", ...)");
}

}  // namespace

Device to_device(nb::handle object) {
  const nb::str text(object);
  const std::string_view name(text.c_str());
  if (name == "cpu") return {};
  if (!name.starts_with(kCuda)) refuse(name);
  const std::string_view index = name.substr(kCuda.size());
  if (index.empty()) return {DeviceType::kCuda, 0};
  Device device{DeviceType::kCuda, -1};
  const char* const end = index.data() + index.size();
  if (index[0] != ':' || std::from_chars(index.data() + 1, end, device.index).ptr != end || device.index < 0) {
    refuse(name);
  }
  return device;
}

std::string name_of(const Device& device) {
  return device.type == DeviceType::kHost ? "cpu" : "cuda:" + std::to_string(device.index);
}

Stream to_stream(nb::handle object, Device device) {
  if (object.is_none()) return {device, nullptr};
  nb::object address = nb::borrow(object);
  if (nb::hasattr(object, "cuda_stream")) {
    address = object.attr("cuda_stream");
  } else if (nb::hasattr(object, "__cuda_stream__")) {
    address = object.attr("__cuda_stream__")()[1];
  }
  return {device, reinterpret_cast<void*>(nb::cast<std::uintptr_t>(address))};
}

nb::int_ dlpack_number(const Stream& stream) {
  constexpr std::uintptr_t kDefaultStream = 1;  // 0 is not allowed there
  const auto address = reinterpret_cast<std::uintptr_t>(stream.native);
  return nb::int_(address == 0 ? kDefaultStream : address);
}

}  // namespace crossdock::python
