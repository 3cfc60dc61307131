#include "base/shared_memory.hpp"

#include <fcntl.h>
#include <linux/memfd.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <unistd.h>

#include <cstdint>
#include <string>
#include <utility>

#include "base/error.hpp"

namespace crossdock {

namespace {

constexpr std::size_t kHugePageBytes = std::size_t{2} << 20U;

std::size_t round_up(std::size_t bytes, std::size_t unit) { return (bytes + unit - 1) / unit * unit; }

std::size_t normal_page_bytes() { return static_cast<std::size_t>(::sysconf(_SC_PAGESIZE)); }

/// Maps at an address where huge pages fit, without populating. Null if the kernel refuses. REQUIRES: whole pages.
std::byte* map_shared(int fd, std::size_t bytes) {
  const std::size_t alignment = bytes >= kHugePageBytes ? kHugePageBytes : normal_page_bytes();
  void* reserved = ::mmap(nullptr, bytes + alignment, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (reserved == MAP_FAILED) return nullptr;
  auto* const begin = static_cast<std::byte*>(reserved);
  const std::size_t head =
      round_up(reinterpret_cast<std::uintptr_t>(begin), alignment) - reinterpret_cast<std::uintptr_t>(begin);
  std::byte* const data = begin + head;
  // Where this fails, the kernel may have removed the reservation already (it does for reserved huge pages), and
  // another thread may have mapped something there since. So only what surrounds it is given back: that is certainly
  // still ours.
  const bool is_mapped = ::mmap(data, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0) != MAP_FAILED;
  if (head > 0) ::munmap(begin, head);
  if (head < alignment) ::munmap(data + bytes, alignment - head);
  return is_mapped ? data : nullptr;
}

/// A file with reserved huge pages, or an invalid descriptor.
FileDescriptor make_reserved_huge_file() {
  return FileDescriptor(::memfd_create("crossdock", MFD_CLOEXEC | MFD_HUGETLB | MFD_HUGE_2MB));
}

/// A file with transparent huge pages, or an invalid descriptor. The kernel's own shared-memory mount (memfd) has them
/// switched off by default; a tmpfs mount of our own, never attached to any path, may switch them on. Needs the right
/// to mount.
FileDescriptor make_transparent_huge_file(std::size_t bytes) {
  const FileDescriptor context(::fsopen("tmpfs", FSOPEN_CLOEXEC));
  if (!context.valid()) return {};
  const std::string size = std::to_string(bytes);
  if (::fsconfig(context.get(), FSCONFIG_SET_STRING, "huge", "always", 0) != 0 ||
      ::fsconfig(context.get(), FSCONFIG_SET_STRING, "size", size.c_str(), 0) != 0 ||
      ::fsconfig(context.get(), FSCONFIG_CMD_CREATE, nullptr, nullptr, 0) != 0) {
    return {};
  }
  const FileDescriptor mount(::fsmount(context.get(), FSMOUNT_CLOEXEC, 0));
  if (!mount.valid()) return {};
  return FileDescriptor(::openat(mount.get(), ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600));
}

FileDescriptor make_normal_file() {
  FileDescriptor fd(::memfd_create("crossdock", MFD_CLOEXEC));
  if (!fd.valid()) throw system_error("memfd_create");
  return fd;
}

/// Touches every page now, so that the data path never pays for a first touch.
void populate(std::byte* data, std::size_t bytes) {
#ifdef MADV_POPULATE_WRITE
  if (::madvise(data, bytes, MADV_POPULATE_WRITE) == 0) return;
  if (errno != EINVAL) {
    Error error = make_error(ErrorCode::kCapacity, "the system has not enough shared memory for {} bytes", bytes);
    throw error.with_system_error(errno);
  }
#endif
  // Kernels before 5.14: an atomic no-op per page keeps what another process may have written already.
  for (std::size_t offset = 0; offset < bytes; offset += normal_page_bytes()) {
    __atomic_fetch_or(reinterpret_cast<unsigned char*>(data + offset), 0, __ATOMIC_RELAXED);
  }
}

}  // namespace

SharedMemory::SharedMemory(FileDescriptor fd, std::byte* data, std::size_t size, PageKind kind) noexcept
    : fd_(std::move(fd)), data_(data), size_(size), page_kind_(kind) {}

SharedMemory::SharedMemory(SharedMemory&& other) noexcept
    : fd_(std::move(other.fd_)),
      data_(std::exchange(other.data_, nullptr)),
      size_(other.size_),
      page_kind_(other.page_kind_) {}

SharedMemory& SharedMemory::operator=(SharedMemory&& other) noexcept {
  std::swap(fd_, other.fd_);
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  std::swap(page_kind_, other.page_kind_);
  return *this;
}

SharedMemory::~SharedMemory() {
  if (data_ != nullptr) ::munmap(data_, size_);
}

std::optional<SharedMemory> SharedMemory::try_create(FileDescriptor fd, std::size_t bytes, PageKind kind) {
  if (!fd.valid() || ::ftruncate(fd.get(), static_cast<off_t>(bytes)) != 0) return std::nullopt;
  std::byte* data = map_shared(fd.get(), bytes);  // reserved huge pages are counted here: null if there are not enough
  if (data == nullptr) return std::nullopt;
  return SharedMemory(std::move(fd), data, bytes, kind);
}

SharedMemory SharedMemory::create(std::size_t bytes, bool huge) {
  std::optional<SharedMemory> result;
  if (huge && bytes >= kHugePageBytes) {
    const std::size_t size = round_up(bytes, kHugePageBytes);
    result = try_create(make_reserved_huge_file(), size, PageKind::kReservedHuge);
    if (!result) result = try_create(make_transparent_huge_file(size), size, PageKind::kTransparentHuge);
  }
  if (!result) {
    const std::size_t size = round_up(bytes, normal_page_bytes());
    result = try_create(make_normal_file(), size, PageKind::kNormal);
    if (!result) throw system_error(fmt::format("shared memory of {} bytes", size));
  }
  populate(result->data(), result->size());
  return *std::move(result);
}

SharedMemory SharedMemory::attach(FileDescriptor fd, std::size_t bytes) {
  std::byte* data = map_shared(fd.get(), bytes);
  if (data == nullptr) throw system_error(fmt::format("mmap of a peer's {} bytes", bytes));
  SharedMemory result(std::move(fd), data, bytes, PageKind::kNormal);
  populate(data, bytes);
  return result;
}

}  // namespace crossdock
