#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <crossdock/error.hpp>

#include "binding.hpp"
#include "device.hpp"
#include "dtype.hpp"
#include "tensor.hpp"

namespace crossdock::python {

namespace {

using namespace nb::literals;

int dlpack_device_type(const Tensor& tensor) {
  return tensor.device().type == DeviceType::kHost ? nb::device::cpu::value : nb::device::cuda::value;
}

/// The same memory for a framework. The Python object of the tensor is its owner, and so keeps the slab.
template <class Framework>
nb::ndarray<Framework> to_framework(const Tensor& tensor, nb::handle owner, nb::dlpack::dtype dtype) {
  std::array<std::size_t, Tensor::kMaxDimensions> shape{};
  std::array<std::int64_t, Tensor::kMaxDimensions> strides{};
  for (int d = 0; d < tensor.dimensions(); ++d) {
    shape.at(static_cast<std::size_t>(d)) = static_cast<std::size_t>(tensor.size(d));
    strides.at(static_cast<std::size_t>(d)) = tensor.stride(d);
  }
  return nb::ndarray<Framework>(tensor.data(), static_cast<std::size_t>(tensor.dimensions()), shape.data(), owner,
                                strides.data(), dtype, dlpack_device_type(tensor), tensor.device().index);
}

nb::object dlpack(const nb::object& self, const nb::kwargs& arguments) {
  const auto& tensor = nb::cast<const Tensor&>(self);
  return nb::cast(to_framework<nb::array_api>(tensor, self, dlpack_of(tensor.dtype()))).attr("__dlpack__")(**arguments);
}

nb::object to_numpy(const nb::object& self) {
  const auto& tensor = nb::cast<const Tensor&>(self);
  if (tensor.device().type != DeviceType::kHost) {
    throw Error(ErrorCode::kUnsupported,
                "numpy() of a tensor on " + name_of(tensor.device()) + ": numpy has arrays on the CPU only");
  }
  if (!needs_ml_dtypes(tensor.dtype())) {
    return nb::cast(to_framework<nb::numpy>(tensor, self, dlpack_of(tensor.dtype())));
  }
  const nb::object bits = nb::cast(to_framework<nb::numpy>(tensor, self, dlpack_bits_of(tensor.dtype())));
  const std::string name(entry_of(tensor.dtype()).numpy_name);
  return bits.attr("view")(nb::module_::import_("ml_dtypes").attr(name.c_str()));
}

nb::object to_torch(const nb::object& self) {
  const auto& tensor = nb::cast<const Tensor&>(self);
  if (tensor.dtype() != DataType::kFloat8E4m3) {
    return nb::cast(to_framework<nb::pytorch>(tensor, self, dlpack_of(tensor.dtype())));
  }
  // Not every version of torch that is allowed imports FP8 through DLPack.
  const nb::object bits = nb::cast(to_framework<nb::pytorch>(tensor, self, dlpack_bits_of(tensor.dtype())));
  return bits.attr("view")(nb::module_::import_("torch").attr("float8_e4m3fn"));
}

Tensor borrow(std::uintptr_t data_ptr, DataType dtype, const std::vector<std::int64_t>& shape,
              const std::optional<std::vector<std::int64_t>>& strides, nb::object owner, int cuda_device) {
  const Device device = cuda_device < 0 ? Device{} : Device{DeviceType::kCuda, cuda_device};
  const Tensor tensor =
      Tensor::own(keep_alive(std::move(owner)), reinterpret_cast<void*>(data_ptr), dtype, shape, device);
  if (!strides) return tensor;
  if (strides->size() != shape.size()) throw nb::value_error("strides and shape have different lengths");
  return with_strides(tensor, strides->data());
}

nb::tuple to_tuple(const Tensor& tensor, std::int64_t (Tensor::*member)(int) const noexcept) {
  nb::list items;
  for (int d = 0; d < tensor.dimensions(); ++d) items.append((tensor.*member)(d));
  return nb::tuple(items);
}

void bind_dtypes(nb::module_& module) {
  auto dtypes = nb::enum_<DataType>(module, "DataType", "Element types, by numpy's and ml_dtypes' names.");
  for (const DataTypeEntry& entry : kDataTypes) dtypes.value(entry.numpy_name.data(), entry.dtype);
}

}  // namespace

void bind_tensor(nb::module_& module) {
  bind_dtypes(module);
  nb::class_<Tensor>(
      module, "Tensor",
      "Memory with a dtype, a shape and strides: the form in which crossdock returns results.\n\n"
      "A received tensor is a piece of the buffer's arena, which is given back when this object and all arrays made of "
      "it are gone. It is exported without a copy by numpy(), torch(), and to everything that takes DLPack "
      "(numpy.from_dlpack, jax.dlpack.from_dlpack, torch.from_dlpack, cupy.from_dlpack). Once the operation has ended "
      "it may be used on any stream.")
      .def_static(
          "borrow", &borrow, "data_ptr"_a, "dtype"_a, "shape"_a, "strides"_a = nb::none(),
          "owner"_a.none() = nb::none(), "cuda_device"_a = -1,
          "A tensor over memory at an address, which `owner` keeps alive. Strides are in elements; without them "
          "it is row-major. cuda_device -1 is the CPU.")
      .def_prop_ro("dtype", &Tensor::dtype)
      .def_prop_ro("shape", [](const Tensor& self) { return to_tuple(self, &Tensor::size); })
      .def_prop_ro(
          "strides", [](const Tensor& self) { return to_tuple(self, &Tensor::stride); }, "In elements.")
      .def_prop_ro(
          "device", [](const Tensor& self) { return name_of(self.device()); }, "\"cpu\" or \"cuda:0\", ...")
      .def_prop_ro("nbytes", &Tensor::num_bytes)
      .def("data_ptr", [](const Tensor& self) { return reinterpret_cast<std::uintptr_t>(self.data()); })
      .def("first", &Tensor::first, "count"_a, "The first entries along dimension 0, sharing the memory.")
      .def("numpy", &to_numpy, nb::sig("def numpy(self) -> numpy.typing.NDArray"),
           "A numpy array of the same memory. bfloat16 and FP8 need ml_dtypes.")
      .def("torch", &to_torch, nb::sig("def torch(self) -> torch.Tensor"), "A torch tensor of the same memory.")
      .def("__dlpack__", &dlpack, nb::sig("def __dlpack__(self, **kwargs: typing.Any) -> typing.Any"))
      .def("__dlpack_device__",
           [](const Tensor& self) { return std::pair(dlpack_device_type(self), self.device().index); })
      .def("__repr__", [](const Tensor& self) { return "crossdock.Tensor(" + self.description() + ")"; });
}

}  // namespace crossdock::python
