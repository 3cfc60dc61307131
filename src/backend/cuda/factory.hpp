// The only door to the CUDA backend. Builds without CUDA have it too: there everything throws kUnsupported.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include <crossdock/bootstrap.hpp>
#include <crossdock/buffer.hpp>

#include "backend/backend.hpp"
#include "backend/local_device.hpp"

namespace crossdock::cuda {

struct Parts {
  std::unique_ptr<backend::LocalDevice> local_device;
  std::unique_ptr<backend::Backend> backend;
};

/// Collective. Throws what Buffer's constructor documents.
[[nodiscard]] Parts make_parts(Bootstrap& bootstrap, const BufferOptions& options);

/// As crossdock::capture_stream, for a stream of a CUDA device.
[[nodiscard]] Event capture_stream(const Stream& stream);

/// What is known of each device here, and which pairs cannot reach each other, as sentences; none if there is no
/// device. Throws kUnsupported if CUDA does not work here, saying why.
[[nodiscard]] std::vector<std::string> describe_devices();

/// For tools and tests: the device of a rank, of which those that are visible here take one after the other. Makes it
/// the current one of the calling thread. Throws kUnsupported if there is none.
[[nodiscard]] Device use_device_of(int rank);

/// For tools and tests: a contiguous copy of a contiguous host tensor on a device, and of a device's in host memory.
[[nodiscard]] Tensor copy_to_device(const Tensor& tensor, Device device);
[[nodiscard]] Tensor copy_to_host(const Tensor& tensor);
/// Copies a contiguous tensor of a device to another one of the same size there. Returns when it is done.
void copy_on_device(const Tensor& from, const Tensor& to);

}  // namespace crossdock::cuda
