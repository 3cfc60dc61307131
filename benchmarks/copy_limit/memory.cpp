#include "memory.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <cstring>
#include <system_error>

namespace copy_limit {
namespace {

constexpr std::size_t kHugePage = std::size_t{2} << 20;

std::size_t rounded_up(std::size_t bytes) { return (bytes + kHugePage - 1) & ~(kHugePage - 1); }

/// A file on a tmpfs that backs it with huge pages. The mount is attached nowhere and goes with its last user.
/// Needs CAP_SYS_ADMIN; -1 where that or the kernel's support is missing.
int huge_file(std::size_t bytes) {
  const auto filesystem = static_cast<int>(::syscall(SYS_fsopen, "tmpfs", 0));
  if (filesystem < 0) return -1;
  const bool configured = ::syscall(SYS_fsconfig, filesystem, FSCONFIG_SET_STRING, "huge", "always", 0) == 0 &&
                          ::syscall(SYS_fsconfig, filesystem, FSCONFIG_CMD_CREATE, nullptr, nullptr, 0) == 0;
  const int mount = configured ? static_cast<int>(::syscall(SYS_fsmount, filesystem, 0, 0)) : -1;
  const int file = mount >= 0 ? ::openat(mount, ".", O_TMPFILE | O_RDWR, 0600) : -1;
  if (mount >= 0) ::close(mount);
  ::close(filesystem);
  if (file < 0) return -1;
  if (::ftruncate(file, static_cast<off_t>(bytes)) == 0) return file;
  ::close(file);
  return -1;
}

/// Maps at a 2 MiB boundary, without which the kernel maps a huge page in small pieces.
std::byte* map_aligned(int file, std::size_t bytes) {
  void* reserved = ::mmap(nullptr, bytes + kHugePage, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (reserved == MAP_FAILED) throw std::system_error(errno, std::generic_category(), "mmap");
  const auto address = rounded_up(reinterpret_cast<std::uintptr_t>(reserved));
  const int flags = MAP_SHARED | MAP_FIXED | (file < 0 ? MAP_ANONYMOUS : 0);
  void* mapped = ::mmap(reinterpret_cast<void*>(address), bytes, PROT_READ | PROT_WRITE, flags, file, 0);
  if (mapped == MAP_FAILED) throw std::system_error(errno, std::generic_category(), "mmap of shared memory");
  return static_cast<std::byte*>(mapped);
}

}  // namespace

std::span<std::byte> shared_memory(std::size_t bytes, Pages pages) {
  bytes = rounded_up(bytes);
  const int file = pages == Pages::kHuge ? huge_file(bytes) : -1;
  if (pages == Pages::kHuge && file < 0) return {};
  std::byte* memory = map_aligned(file, bytes);
  if (file >= 0) ::close(file);
  std::memset(memory, 1, bytes);
  return {memory, bytes};
}

}  // namespace copy_limit
