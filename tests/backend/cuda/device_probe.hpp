// Is there a device to test on?
#pragma once

#include <string>

namespace crossdock::testing {

/// Why there is none, or empty. The first call prints the devices. It asks in a child process: CUDA does not work in
/// children of a process that has used it.
[[nodiscard]] std::string why_no_cuda_device();

}  // namespace crossdock::testing
