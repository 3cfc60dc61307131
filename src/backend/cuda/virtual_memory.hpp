// Device memory that is shared by file descriptors: the driver's virtual memory management.
#pragma once

#include <cstddef>

#include "base/file_descriptor.hpp"

namespace crossdock::cuda {

/// Can allocations of the device be exported as file descriptors?
[[nodiscard]] bool offers_virtual_memory(int device) noexcept;

/// Where memory lies in this process.
struct VirtualMemory {
  std::byte* data = nullptr;
  std::size_t bytes = 0;  ///< rounded up to what the driver maps at once
};

struct ExportedMemory {
  VirtualMemory memory;
  FileDescriptor fd;  ///< for other processes; what they have mapped does not need it any more
};

/// Allocates on the device. Throws kCapacity if there is not enough, kUnsupported if offers_virtual_memory is false.
[[nodiscard]] ExportedMemory allocate_virtual_memory(int device, std::size_t bytes);
/// Maps what another process has allocated, `bytes` as it says, for kernels of `device`, whichever device it lies on.
[[nodiscard]] VirtualMemory import_virtual_memory(int device, const FileDescriptor& fd, std::size_t bytes);
/// Lets kernels of another device of this process use it, too.
void let_virtual_memory_reach(int device, const VirtualMemory& memory);
/// Undoes either. The memory goes when all processes have let go of it.
void release_virtual_memory(const VirtualMemory& memory) noexcept;

}  // namespace crossdock::cuda
