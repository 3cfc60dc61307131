// The arenas of all ranks, as this rank's device sees them.
#pragma once

#include <memory>
#include <vector>

#include <crossdock/bootstrap.hpp>

#include "backend/cuda/device_memory.hpp"
#include "base/deadline.hpp"

namespace crossdock::cuda {

using DeviceWindows = std::vector<std::shared_ptr<DeviceMemory>>;  ///< [R]

struct DeviceGroup {
  DeviceWindows windows;
  int num_sharers = 1;   ///< ranks whose device is this rank's
  int most_sharers = 1;  ///< of any device
};

struct WindowBytes {
  std::size_t control = 0;  ///< zeroed
  std::size_t arena = 0;    ///< behind it
};

/// Collective. Each rank allocates its window on its device and shows it to the others: by CUDA IPC to other processes,
/// as it is to ranks of the same one. Throws the same error on every rank if one of them cannot.
[[nodiscard]] DeviceGroup exchange_device_windows(Bootstrap& bootstrap, int device, const WindowBytes& bytes,
                                                  const Deadline& deadline);

}  // namespace crossdock::cuda
