#include "tensor.hpp"

#include <cstdint>
#include <string>
#include <vector>

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/string.h>

#include <crossdock/error.hpp>

#include "binding.hpp"
#include "device.hpp"
#include "dtype.hpp"

namespace crossdock::python {

namespace {

[[noreturn]] void refuse(const char* name, const std::string& reason) {
  throw Error(ErrorCode::kInvalidArgument, std::string(name) + " " + reason);
}

[[noreturn]] void refuse_dtype(const char* name, const std::string& dtype) {
  std::string allowed;
  for (const DataTypeEntry& entry : kDataTypes)
    allowed += (allowed.empty() ? "" : ", ") + std::string(entry.numpy_name);
  refuse(name, "has the dtype " + dtype + ", allowed are " + allowed + " (or its bytes as uint8)");
}

std::string type_of(const nb::object& object) { return nb::cast<std::string>(nb::type_name(object.type())); }

/// Memory by numpy's own protocol, which knows the dtypes of ml_dtypes and read-only arrays.
/// https://numpy.org/doc/stable/reference/arrays.interface.html
Tensor from_array_interface(const nb::object& object, const char* name) {
  const nb::dict interface = nb::cast<nb::dict>(object.attr("__array_interface__"));
  const auto dtype_name = nb::cast<std::string>(object.attr("dtype").attr("name"));
  const std::optional<DataType> dtype = data_type_of(dtype_name);
  if (!dtype) refuse_dtype(name, dtype_name);
  if (nb::cast<std::string>(interface["typestr"]).starts_with('>'))
    refuse(name, "is big-endian, little-endian is allowed");
  const auto address = nb::cast<std::uintptr_t>(nb::cast<nb::tuple>(interface["data"])[0]);
  std::vector<std::int64_t> shape;
  for (const nb::handle extent : nb::cast<nb::tuple>(interface["shape"]))
    shape.push_back(nb::cast<std::int64_t>(extent));
  const Tensor tensor = Tensor::own(keep_alive(object), reinterpret_cast<void*>(address), *dtype, shape);
  const nb::object strides = interface["strides"];
  if (strides.is_none()) return tensor;
  std::vector<std::int64_t> elements;
  const auto size = static_cast<std::int64_t>(size_of(*dtype));
  for (const nb::handle stride : nb::cast<nb::tuple>(strides)) {
    const auto bytes = nb::cast<std::int64_t>(stride);
    if (bytes % size != 0) refuse(name, "has a stride of " + std::to_string(bytes) + " bytes, not a whole element");
    elements.push_back(bytes / size);
  }
  return with_strides(tensor, elements.data());
}

Device device_of(const nb::ndarray<nb::ro>& array, const char* name) {
  switch (array.device_type()) {
    case nb::device::cpu::value: return {};
    case nb::device::cuda::value: return {DeviceType::kCuda, array.device_id()};
    default:
      refuse(name, "lies on a device of DLPack type " + std::to_string(array.device_type()) +
                       ", allowed are 1 (CPU) and 2 (CUDA)");
  }
}

/// The array itself, with its deleter, is the owner; it too must die under the GIL.
std::shared_ptr<void> keep_alive(nb::ndarray<nb::ro> array) {
  return {new nb::ndarray<nb::ro>(std::move(array)), [](void* owned) {
            if (!nb::is_alive()) return;
            const nb::gil_scoped_acquire gil;
            delete static_cast<nb::ndarray<nb::ro>*>(owned);
          }};
}

/// The same memory, of which its framework knows that `stream` is about to use it.
nb::ndarray<nb::ro> export_to(const nb::object& object, const Stream& stream) {
  return nb::cast<nb::ndarray<nb::ro>>(object.attr("__dlpack__")(nb::arg("stream") = dlpack_number(stream)));
}

Tensor from_dlpack(const nb::object& object, const char* name, const Stream& stream) {
  nb::ndarray<nb::ro> array;
  if (!nb::try_cast(object, array)) {
    refuse(name, "is a " + type_of(object) +
                     ", allowed is what has memory on the CPU or a CUDA device: a crossdock.Tensor, a numpy array, or "
                     "what can be exported through DLPack (not, for example, a torch tensor that requires a gradient)");
  }
  const Device device = device_of(array, name);
  if (device.type == DeviceType::kCuda) array = export_to(object, stream);
  const std::optional<DataType> dtype = data_type_of(array.dtype());
  if (!dtype) {
    refuse_dtype(name, "of DLPack code " + std::to_string(array.dtype().code) + " with " +
                           std::to_string(array.dtype().bits) + " bits");
  }
  const std::span<const std::int64_t> shape(array.shape_ptr(), array.ndim());
  auto* const data = static_cast<std::byte*>(array.data_handle()) + array.byte_offset();
  const std::vector<std::int64_t> strides(array.stride_ptr(), array.stride_ptr() + array.ndim());
  return with_strides(Tensor::own(keep_alive(std::move(array)), data, *dtype, shape, device), strides.data());
}

}  // namespace

Tensor to_tensor(const nb::object& object, const char* name, const Stream& stream) {
  Tensor* tensor = nullptr;
  if (nb::try_cast(object, tensor, false) && tensor != nullptr) return *tensor;
  if (nb::hasattr(object, "__array_interface__") && nb::hasattr(object, "dtype")) {
    return from_array_interface(object, name);
  }
  return from_dlpack(object, name, stream);
}

Tensor with_strides(const Tensor& tensor, const std::int64_t* strides) {
  switch (tensor.dimensions()) {
    case 1: return tensor.with_strides({strides[0]});
    case 2: return tensor.with_strides({strides[0], strides[1]});
    case 3: return tensor.with_strides({strides[0], strides[1], strides[2]});
    default: return tensor.with_strides({strides[0], strides[1], strides[2], strides[3]});
  }
}

}  // namespace crossdock::python
