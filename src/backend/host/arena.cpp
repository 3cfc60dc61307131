#include "backend/host/arena.hpp"

#include <algorithm>
#include <array>
#include <limits>
#include <numeric>

namespace crossdock::host {

std::size_t Arena::slab_bytes(DataType dtype, std::span<const std::int64_t> shape) noexcept {
  constexpr std::size_t kTooMany = std::numeric_limits<std::size_t>::max();
  std::size_t bytes = size_of(dtype);
  if (std::ranges::find(shape, 0) != shape.end()) return 0;
  for (const std::int64_t extent : shape) {
    if (__builtin_mul_overflow(bytes, static_cast<std::size_t>(extent), &bytes)) return kTooMany;
  }
  if (bytes > kTooMany - kSlabAlignment) return kTooMany;
  return (bytes + kSlabAlignment - 1) / kSlabAlignment * kSlabAlignment;
}

Arena::Arena(const std::shared_ptr<SharedMemory>& memory, std::size_t offset, std::size_t bytes)
    : memory_(memory), window_(memory->data()), offset_(offset), bytes_(bytes / kSlabAlignment * kSlabAlignment) {
  if (bytes_ > 0) free_.push_back({0, bytes_});
}

Arena::Arena(std::shared_ptr<void> memory, std::byte* window, std::size_t bytes, Device device)
    : memory_(std::move(memory)),
      window_(window),
      offset_(0),
      bytes_(bytes / kSlabAlignment * kSlabAlignment),
      device_(device) {
  if (bytes_ > 0) free_.push_back({0, bytes_});
}

std::optional<Tensor> Arena::try_allocate(DataType dtype, std::span<const std::int64_t> shape, SlabUse use) {
  const std::size_t bytes = slab_bytes(dtype, shape);
  std::byte* const base = window_ + offset_;
  if (bytes == 0) return Tensor::own(shared_from_this(), base, dtype, shape, device_);

  const std::optional<std::size_t> offset = take(bytes, use);
  if (!offset) return std::nullopt;
  const std::shared_ptr<void> slab(
      base + *offset, [arena = shared_from_this(), at = *offset, bytes](void*) noexcept { arena->release(at, bytes); },
      RecyclingAllocator<std::byte>(recycler_));
  return Tensor::own(slab, base + *offset, dtype, shape, device_);
}

std::optional<std::size_t> Arena::take(std::size_t bytes, SlabUse use) {
  const auto is_large_enough = [bytes](const Piece& piece) { return piece.bytes >= bytes; };
  const std::lock_guard lock(mutex_);
  auto piece = free_.end();
  if (use == SlabUse::kResult) {
    piece = std::ranges::find_if(free_, is_large_enough);
  } else if (const auto last = std::find_if(free_.rbegin(), free_.rend(), is_large_enough); last != free_.rend()) {
    piece = std::next(last).base();
  }
  if (piece == free_.end()) return std::nullopt;
  const std::size_t rest = piece->bytes - bytes;
  const std::size_t offset = piece->offset + (use == SlabUse::kStaged ? rest : 0);
  if (rest == 0) {
    free_.erase(piece);
  } else {
    *piece = {use == SlabUse::kStaged ? piece->offset : offset + bytes, rest};
  }
  return offset;
}

std::optional<std::uint64_t> Arena::offset_of(const void* data, std::size_t bytes) const {
  const auto* begin = window_ + offset_;
  const auto* at = static_cast<const std::byte*>(data);
  const std::less_equal<> not_after;
  if (!not_after(begin, at) || !not_after(at + bytes, begin + bytes_)) return std::nullopt;
  return static_cast<std::uint64_t>(at - window_);
}

Tensor Arena::whole() const {
  return Tensor::own(memory_, window_ + offset_, DataType::kUint8, std::array{static_cast<std::int64_t>(bytes_)},
                     device_);
}

std::size_t Arena::bytes_free() const {
  const std::lock_guard lock(mutex_);
  return std::accumulate(free_.begin(), free_.end(), std::size_t{0},
                         [](auto sum, const Piece& p) { return sum + p.bytes; });
}

std::size_t Arena::largest_free() const {
  const std::lock_guard lock(mutex_);
  std::size_t largest = 0;
  for (const Piece& piece : free_) largest = std::max(largest, piece.bytes);
  return largest;
}

void Arena::release(std::size_t offset, std::size_t bytes) noexcept {
  const std::lock_guard lock(mutex_);
  const auto next = std::ranges::lower_bound(free_, offset, {}, &Piece::offset);
  const bool joins_next = next != free_.end() && next->offset == offset + bytes;
  const bool joins_previous = next != free_.begin() && std::prev(next)->offset + std::prev(next)->bytes == offset;
  if (joins_previous) {
    std::prev(next)->bytes += bytes + (joins_next ? next->bytes : 0);
    if (joins_next) free_.erase(next);
  } else if (joins_next) {
    *next = {offset, bytes + next->bytes};
  } else {
    free_.insert(next, {offset, bytes});
  }
}

}  // namespace crossdock::host
