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
  int num_here = 1;      ///< ranks of this process
};

struct WindowBytes {
  std::size_t control = 0;  ///< zeroed
  std::size_t arena = 0;    ///< behind it
};

/// How processes show each other their memory.
enum class Sharing {
  kAny,              ///< CUDA IPC if all ranks can, else file descriptors
  kIpc,              ///< CUDA IPC
  kFileDescriptors,  ///< of the driver's virtual memory (VMM), over Unix sockets
};

/// Collective. Each rank allocates its window on its device and shows it to the others: to other processes in the same
/// way on all ranks, as it is to ranks of the same one. Throws the same error on every rank if one of them cannot.
[[nodiscard]] DeviceGroup exchange_device_windows(Bootstrap& bootstrap, int device, const WindowBytes& bytes,
                                                  const Deadline& deadline, Sharing sharing = Sharing::kAny);

}  // namespace crossdock::cuda
