#include "crossdock/allocation_counter.hpp"

#include <cstdlib>
#include <new>

namespace {

thread_local std::int64_t allocations = 0;  // NOLINT(cppcoreguidelines-avoid-non-const-global-variables)

/// nullptr if there is no memory.
void* try_allocate(std::size_t bytes, std::size_t alignment) noexcept {
  ++allocations;
  const std::size_t size = bytes == 0 ? 1 : bytes;
  // NOLINTNEXTLINE(cppcoreguidelines-no-malloc)
  return alignment <= __STDCPP_DEFAULT_NEW_ALIGNMENT__
             ? std::malloc(size)
             : std::aligned_alloc(alignment, (size + alignment - 1) / alignment * alignment);
}

void* allocate(std::size_t bytes, std::size_t alignment) {
  void* block = try_allocate(bytes, alignment);
  if (block == nullptr) throw std::bad_alloc();
  return block;
}

void release(void* block) noexcept { std::free(block); }  // NOLINT(cppcoreguidelines-no-malloc)

}  // namespace

// The array forms call these. Those that return nullptr call them too in the standard library, but not in
// AddressSanitizer's: it would then miss its own block in delete.
void* operator new(std::size_t bytes) { return allocate(bytes, 1); }
void* operator new(std::size_t bytes, std::align_val_t alignment) {
  return allocate(bytes, static_cast<std::size_t>(alignment));
}
void* operator new(std::size_t bytes, const std::nothrow_t&) noexcept { return try_allocate(bytes, 1); }
void* operator new(std::size_t bytes, std::align_val_t alignment, const std::nothrow_t&) noexcept {
  return try_allocate(bytes, static_cast<std::size_t>(alignment));
}
void operator delete(void* block) noexcept { release(block); }
void operator delete(void* block, std::size_t) noexcept { release(block); }
void operator delete(void* block, std::align_val_t) noexcept { release(block); }
void operator delete(void* block, std::size_t, std::align_val_t) noexcept { release(block); }
void operator delete(void* block, const std::nothrow_t&) noexcept { release(block); }
void operator delete(void* block, std::align_val_t, const std::nothrow_t&) noexcept { release(block); }

namespace crossdock::tool {

std::int64_t count_allocations() noexcept { return allocations; }

}  // namespace crossdock::tool
