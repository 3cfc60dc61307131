// Devices and streams as Python names them.
#pragma once

#include <string>

#include <nanobind/nanobind.h>

#include <crossdock/types.hpp>

namespace crossdock::python {

/// "cpu", "cuda" (the first device), "cuda:1", or what prints like that, for example a torch.device.
/// Throws kInvalidArgument for others.
[[nodiscard]] Device to_device(nanobind::handle object);
[[nodiscard]] std::string name_of(const Device& device);

/// None (the default stream), the address of a CUDA stream, or an object that has it: torch's by its attribute
/// cuda_stream, others by the method __cuda_stream__.
/// https://nvidia.github.io/cuda-python/cuda-core/latest/interoperability.html#cuda-stream-protocol
[[nodiscard]] Stream to_stream(nanobind::handle object, Device device = {});

/// The number by which DLPack knows the stream.
/// https://data-apis.org/array-api/latest/API_specification/generated/array_api.array.__dlpack__.html
[[nodiscard]] nanobind::int_ dlpack_number(const Stream& stream);

}  // namespace crossdock::python
