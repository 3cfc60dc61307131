// The arenas of all ranks, as this rank's device sees them.
#pragma once

#include <memory>
#include <vector>

#include <crossdock/bootstrap.hpp>

#include "backend/cuda/device_memory.hpp"
#include "base/deadline.hpp"

namespace crossdock::cuda {

using DeviceWindows = std::vector<std::shared_ptr<DeviceMemory>>;  ///< [R]

/// Collective. Each rank allocates `bytes` on its device and shows them to the others: by CUDA IPC to other processes,
/// as they are to ranks of the same one. Throws the same error on every rank if one of them cannot.
[[nodiscard]] DeviceWindows exchange_device_windows(Bootstrap& bootstrap, int device, std::size_t bytes,
                                                    const Deadline& deadline);

}  // namespace crossdock::cuda
