#include "base/shared_memory.hpp"

#include <linux/memfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include <optional>
#include <utility>

#include "base/error.hpp"

namespace crossdock {

namespace {

constexpr std::size_t kHugePageBytes = std::size_t{2} << 20U;

std::size_t round_up(std::size_t bytes, std::size_t unit) { return (bytes + unit - 1) / unit * unit; }

std::size_t normal_page_bytes() { return static_cast<std::size_t>(::sysconf(_SC_PAGESIZE)); }

/// Maps without populating, so that advice can still be given.
std::byte* map_shared(int fd, std::size_t bytes) {
  void* data = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  return data == MAP_FAILED ? nullptr : static_cast<std::byte*>(data);
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

SharedMemory::~SharedMemory() {
  if (data_ != nullptr) ::munmap(data_, size_);
}

SharedMemory SharedMemory::create(std::size_t bytes, bool huge) {
  if (huge) {
    // Reserved huge pages are counted at mmap: a failure here is the answer that there are not enough.
    FileDescriptor fd(::memfd_create("crossdock", MFD_CLOEXEC | MFD_HUGETLB | MFD_HUGE_2MB));
    const std::size_t size = round_up(bytes, kHugePageBytes);
    if (fd.valid() && ::ftruncate(fd.get(), static_cast<off_t>(size)) == 0) {
      if (std::byte* data = map_shared(fd.get(), size)) {
        SharedMemory result(std::move(fd), data, size, PageKind::kReservedHuge);
        populate(data, size);
        return result;
      }
    }
  }
  FileDescriptor fd(::memfd_create("crossdock", MFD_CLOEXEC));
  if (!fd.valid()) throw system_error("memfd_create");
  const std::size_t size = round_up(bytes, normal_page_bytes());
  if (::ftruncate(fd.get(), static_cast<off_t>(size)) != 0) throw system_error(fmt::format("a memfd of {} bytes", size));
  std::byte* data = map_shared(fd.get(), size);
  if (data == nullptr) throw system_error(fmt::format("mmap of {} bytes", size));
  const bool transparent = huge && ::madvise(data, size, MADV_HUGEPAGE) == 0;
  SharedMemory result(std::move(fd), data, size, transparent ? PageKind::kTransparentHuge : PageKind::kNormal);
  populate(data, size);
  return result;
}

SharedMemory SharedMemory::attach(FileDescriptor fd, std::size_t bytes) {
  std::byte* data = map_shared(fd.get(), bytes);
  if (data == nullptr) throw system_error(fmt::format("mmap of a peer's {} bytes", bytes));
  SharedMemory result(std::move(fd), data, bytes, PageKind::kNormal);
  populate(data, bytes);
  return result;
}

}  // namespace crossdock
