// Memory of the emulated devices. That of cudaMalloc is a file without a name, so that other processes can map it.
#include <cuda_runtime_api.h>
#include <fcntl.h>
#include <malloc.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <iterator>
#include <map>
#include <mutex>
#include <string>
#include <vector>

#include "emulator/devices.hpp"
#include "emulator/stream.hpp"

using crossdock::emulator::enqueue;
using crossdock::emulator::require_no_callback;

namespace {

struct Mapping {
  std::size_t bytes = 0;
  int fd = -1;  ///< of our own memory
};

std::mutex mutex;                   // NOLINT(cppcoreguidelines-avoid-non-const-global-variables)
std::map<void*, Mapping> mappings;  // NOLINT(cppcoreguidelines-avoid-non-const-global-variables)

/// Memory of cudaHostAlloc: begins and sizes.
std::map<const std::byte*, std::size_t> pinned;  // NOLINT(cppcoreguidelines-avoid-non-const-global-variables)

bool is_pinned(const void* memory) {
  const std::lock_guard lock(mutex);
  const auto* const byte = static_cast<const std::byte*>(memory);
  const auto next = pinned.upper_bound(byte);
  return next != pinned.begin() && byte < std::prev(next)->first + std::prev(next)->second;
}

/// What a cudaIpcMemHandle_t holds.
struct Handle {
  pid_t pid;
  int fd;
  std::size_t bytes;
};

/// New memory and memory that was freed hold rubbish, in their first part: who relies on them shall notice.
void spoil(void* memory, std::size_t bytes) {
  constexpr std::size_t kMost = std::size_t{1} << 20U;
  std::memset(memory, 0xCD, std::min(bytes, kMost));
}

void* map(int fd, std::size_t bytes) {
  void* const memory = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  return memory == MAP_FAILED ? nullptr : memory;
}

void unmap(void* memory) {
  const std::lock_guard lock(mutex);
  const auto found = mappings.find(memory);
  if (found == mappings.end()) return;
  ::munmap(memory, found->second.bytes);
  if (found->second.fd >= 0) ::close(found->second.fd);
  mappings.erase(found);
}

void copy(void* to, const void* from, std::size_t bytes) {
  if (bytes > 0) std::memmove(to, from, bytes);
}

}  // namespace

extern "C" {

cudaError_t cudaMalloc(void** memory, size_t bytes) {
  require_no_callback(__func__);
  const int fd = ::memfd_create("emulated CUDA memory", MFD_CLOEXEC);
  if (fd < 0) return cudaErrorMemoryAllocation;
  void* const mapped = ::ftruncate(fd, static_cast<off_t>(bytes)) == 0 ? map(fd, bytes) : nullptr;
  if (mapped == nullptr) {
    ::close(fd);
    return cudaErrorMemoryAllocation;
  }
  spoil(mapped, bytes);
  const std::lock_guard lock(mutex);
  mappings[mapped] = {bytes, fd};
  *memory = mapped;
  return cudaSuccess;
}
cudaError_t cudaFree(void* memory) {
  require_no_callback(__func__);
  crossdock::emulator::synchronize_all();  // as CUDA's
  unmap(memory);
  return cudaSuccess;
}

cudaError_t cudaMemGetInfo(size_t* free, size_t* total) {
  require_no_callback(__func__);
  *total = crossdock::emulator::kMemoryBytes;
  *free = *total;
  const std::lock_guard lock(mutex);
  for (const auto& [memory, mapping] : mappings) *free -= mapping.bytes;
  return cudaSuccess;
}

cudaError_t cudaIpcGetMemHandle(cudaIpcMemHandle_t* handle, void* memory) {
  require_no_callback(__func__);
  const std::lock_guard lock(mutex);
  const auto found = mappings.find(memory);
  if (found == mappings.end()) return cudaErrorInvalidValue;
  const Handle ours{::getpid(), found->second.fd, found->second.bytes};
  static_assert(sizeof(ours) <= sizeof(*handle));
  std::memcpy(handle, &ours, sizeof(ours));
  return cudaSuccess;
}
cudaError_t cudaIpcOpenMemHandle(void** memory, cudaIpcMemHandle_t handle, unsigned int) {
  require_no_callback(__func__);
  Handle theirs{};
  std::memcpy(&theirs, &handle, sizeof(theirs));
  if (theirs.pid == ::getpid()) return cudaErrorDeviceUninitialized;
  const auto path = "/proc/" + std::to_string(theirs.pid) + "/fd/" + std::to_string(theirs.fd);
  const int fd = ::open(path.c_str(), O_RDWR | O_CLOEXEC);
  if (fd < 0) return cudaErrorMapBufferObjectFailed;
  void* const mapped = map(fd, theirs.bytes);
  ::close(fd);
  if (mapped == nullptr) return cudaErrorMapBufferObjectFailed;
  const std::lock_guard lock(mutex);
  mappings[mapped] = {theirs.bytes, -1};
  *memory = mapped;
  return cudaSuccess;
}
cudaError_t cudaIpcCloseMemHandle(void* memory) {
  require_no_callback(__func__);
  crossdock::emulator::synchronize_all();
  unmap(memory);
  return cudaSuccess;
}

cudaError_t cudaHostAlloc(void** memory, size_t bytes, unsigned int) {
  require_no_callback(__func__);
  *memory = std::malloc(bytes);  // NOLINT(cppcoreguidelines-no-malloc)
  if (*memory == nullptr) return cudaErrorMemoryAllocation;
  spoil(*memory, bytes);
  const std::lock_guard lock(mutex);
  pinned[static_cast<std::byte*>(*memory)] = bytes;
  return cudaSuccess;
}
cudaError_t cudaFreeHost(void* memory) {
  require_no_callback(__func__);
  crossdock::emulator::synchronize_all();
  const std::lock_guard lock(mutex);
  pinned.erase(static_cast<std::byte*>(memory));
  std::free(memory);  // NOLINT(cppcoreguidelines-no-malloc)
  return cudaSuccess;
}

// Pools give memory at once; it is freed in the order of the stream.
cudaError_t cudaMemPoolCreate(cudaMemPool_t* pool, const cudaMemPoolProps*) {
  *pool = nullptr;
  return cudaSuccess;
}
cudaError_t cudaMemPoolDestroy(cudaMemPool_t) { return cudaSuccess; }
cudaError_t cudaMemPoolSetAttribute(cudaMemPool_t, cudaMemPoolAttr, void*) { return cudaSuccess; }
cudaError_t cudaDeviceGetDefaultMemPool(cudaMemPool_t* pool, int) {
  *pool = nullptr;
  return cudaSuccess;
}
cudaError_t cudaMallocAsync(void** memory, size_t bytes, cudaStream_t) {
  require_no_callback(__func__);
  constexpr std::size_t kAlignment = 512;
  const std::size_t rounded = (bytes + kAlignment - 1) / kAlignment * kAlignment;
  *memory = std::aligned_alloc(kAlignment, rounded);
  if (*memory == nullptr) return cudaErrorMemoryAllocation;
  spoil(*memory, rounded);
  return cudaSuccess;
}
cudaError_t cudaMallocFromPoolAsync(void** memory, size_t bytes, cudaMemPool_t, cudaStream_t stream) {
  return cudaMallocAsync(memory, bytes, stream);
}
cudaError_t cudaFreeAsync(void* memory, cudaStream_t stream) {
  require_no_callback(__func__);
  enqueue(stream, [memory] {
    spoil(memory, ::malloc_usable_size(memory));
    std::free(memory);  // NOLINT(cppcoreguidelines-no-malloc)
  });
  return cudaSuccess;
}

// As CUDA's: memory of the host that is not pinned may be used again when the call returns.
cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind kind, cudaStream_t stream) {
  require_no_callback(__func__);
  if (kind == cudaMemcpyHostToDevice && !is_pinned(from)) {
    const auto* const begin = static_cast<const std::byte*>(from);
    enqueue(stream, [to, kept = std::vector<std::byte>(begin, begin + bytes)] { copy(to, kept.data(), kept.size()); });
    return cudaSuccess;
  }
  enqueue(stream, [to, from, bytes] { copy(to, from, bytes); });
  return kind == cudaMemcpyDeviceToHost && !is_pinned(to) ? cudaStreamSynchronize(stream) : cudaSuccess;
}
cudaError_t cudaMemsetAsync(void* to, int value, size_t bytes, cudaStream_t stream) {
  require_no_callback(__func__);
  enqueue(stream, [to, value, bytes] {
    if (bytes > 0) std::memset(to, value, bytes);
  });
  return cudaSuccess;
}
cudaError_t cudaMemcpy(void* to, const void* from, size_t bytes, cudaMemcpyKind kind) {
  const cudaError_t error = cudaMemcpyAsync(to, from, bytes, kind, nullptr);
  return error != cudaSuccess ? error : cudaStreamSynchronize(nullptr);
}
cudaError_t cudaMemset(void* to, int value, size_t bytes) {
  const cudaError_t error = cudaMemsetAsync(to, value, bytes, nullptr);
  return error != cudaSuccess ? error : cudaStreamSynchronize(nullptr);
}

}  // extern "C"
