#include "memory.hpp"

#include <sys/mman.h>

#include <cstring>
#include <new>

namespace peers {
namespace {

constexpr std::size_t kHugePage = std::size_t{2} << 20;
constexpr std::size_t kSpare = 4096;

}  // namespace

Memory::Memory(std::size_t bytes, Pages pages) : mapped_((bytes + kSpare + kHugePage - 1) & ~(kHugePage - 1)) {
  void* reserved =
      ::mmap(nullptr, mapped_ + kHugePage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (reserved == MAP_FAILED) throw std::bad_alloc();
  const auto begin = reinterpret_cast<std::uintptr_t>(reserved);
  const std::uintptr_t aligned = (begin + kHugePage - 1) & ~(kHugePage - 1);
  if (aligned > begin) ::munmap(reserved, aligned - begin);
  if (const std::size_t tail = begin + kHugePage - aligned; tail > 0) {
    ::munmap(reinterpret_cast<void*>(aligned + mapped_), tail);
  }
  data_ = reinterpret_cast<std::byte*>(aligned);
  ::madvise(data_, mapped_, pages == Pages::kHuge ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
  std::memset(data_, 0xFF, mapped_);
}

Memory::~Memory() {
  if (data_ != nullptr) ::munmap(data_, mapped_);
}

}  // namespace peers
