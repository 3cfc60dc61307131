// The bytes of a window: a control block, then the arena. docs/window.md is the description; this header holds the
// constants.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

namespace crossdock::host {

/// Operations whose records a window can hold. An operation's slot is its epoch modulo this. Larger than the number of
/// operations that may be in flight; see Signals::open_epoch for what happens when a rank runs ahead.
inline constexpr std::uint64_t kNumSlots = 16;

inline constexpr std::size_t kLineBytes = 128;  // two cache lines: neighbours are prefetched in pairs
inline constexpr std::uint64_t kWindowMagic = 0x317761'6b636f64ULL;
inline constexpr std::uint32_t kWindowVersion = 3;

// Parts of a signal and of `retired`. The high bits make a signal that a rank gave before it was let in again smaller
// than any later one. A sealed word reads as negative, so it is not what anybody waits for.
inline constexpr unsigned kEpochBits = 48;
inline constexpr std::uint64_t kEpochMask = (std::uint64_t{1} << kEpochBits) - 1;
inline constexpr std::uint64_t kSealed = std::uint64_t{1} << 63U;   ///< others gave up waiting: this word stands
inline constexpr std::uint64_t kStopped = std::uint64_t{1} << 62U;  ///< and its rank has seen that and stopped

[[nodiscard]] constexpr bool has_reached(std::uint64_t word, std::uint64_t required) noexcept {
  return static_cast<std::int64_t>(word) >= static_cast<std::int64_t>(required);
}
[[nodiscard]] constexpr bool is_sealed(std::uint64_t word) noexcept { return (word & kSealed) != 0; }
[[nodiscard]] constexpr bool is_sealed_for(std::uint64_t word, std::uint64_t epoch) noexcept {
  return is_sealed(word) && (word & kEpochMask) == epoch;
}

enum class Phase : std::uint8_t {
  kAnnounce,  ///< the record is written
  kPlace,     ///< the placement is written
  kSend,      ///< all rows of this rank are at their destinations
  kDone,      ///< this rank reads no more from others' windows
};
inline constexpr std::size_t kNumPhases = 4;

[[nodiscard]] constexpr std::string_view name_of(Phase phase) noexcept {
  switch (phase) {
    case Phase::kAnnounce: return "announce";
    case Phase::kPlace: return "place";
    case Phase::kSend: return "send";
    case Phase::kDone: return "done";
  }
  return "unknown";
}

enum class OperationKind : std::uint32_t {
  kNone,
  kRefused,
  kDispatch,
  kCachedDispatch,
  kCombine,
  kLowLatencyDispatch,
  kLowLatencyCombine,
};

/// What a rank says of its operation before anything moves. Compared field by field with the others'.
struct Announcement {
  OperationKind kind = OperationKind::kNone;
  std::uint32_t dtype = 0;        ///< DataType of x
  std::int64_t hidden = 0;        ///< elements of a row of x
  std::uint32_t scale_dtype = 0;  ///< DataType of the scales
  std::int32_t num_scales = -1;   ///< -1: no scales
  std::int32_t num_topk = -1;     ///< -1: without top-k
  std::uint32_t topk_dtype = 0;   ///< DataType of the ids
  std::int32_t num_experts = 0;
  std::uint32_t has_worst_tokens = 0;
  std::uint32_t has_weights = 0;      ///< combine: top-k weights are to be summed
  std::int32_t expert_alignment = 0;  ///< expanded dispatch: of the groups; 0: not expanded
  std::uint64_t handle_epoch = 0;     ///< cached dispatch and combine: the dispatch that they refer to
  std::int64_t max_tokens = 0;        ///< low-latency dispatch: M
  std::uint32_t row_format = 0;       ///< low-latency dispatch: RowFormat; combine: 1 for LogFMT
  std::int32_t num_masked = 0;        ///< ranks that the caller has masked; which: WindowLayout::masked
  // Not compared: each rank's own.
  std::int64_t num_tokens = 0;  ///< N of this rank
  std::int64_t num_worst_tokens = -1;
  std::uint64_t x_offset = 0;  ///< combine: where the rows lie, from the start of the window
  std::uint64_t x_stride = 0;  ///< combine: bytes from row to row
  std::uint64_t weights_offset = 0;
  std::uint32_t is_packed = 0;     ///< low-latency combine: only used rows, those of expert after expert
  std::uint32_t refusal_code = 0;  ///< kRefused: ErrorCode
  char reason[512] = {};           ///< kRefused: why, for people
};

/// Where a rank takes what it receives: offsets from the start of its window.
struct Placement {
  std::uint64_t x = 0;
  std::uint64_t scales = 0;
  std::uint64_t topk_idx = 0;
  std::uint64_t topk_weights = 0;
  std::uint64_t src_idx = 0;
  std::uint64_t bytes_needed = 0;  ///< not 0: there was no room; this many bytes of arena would have done
};

/// Followed by int32 counts, [num_ranks] rows for each rank, then [max_experts] selections of each expert; then by
/// bytes [num_ranks], not 0 for each rank that is masked (written only if there are any).
struct alignas(kLineBytes) Slot {
  std::atomic<std::uint64_t> signals[kNumPhases] = {};  ///< the epoch for which this rank has reached each phase
  Placement placement;
  alignas(kLineBytes) Announcement announcement;
};
static_assert(std::atomic<std::uint64_t>::is_always_lock_free && sizeof(std::atomic<std::uint64_t>) == 8);
static_assert(offsetof(Slot, placement) == 32 && offsetof(Slot, announcement) == 128);

enum class Departure : std::uint32_t { kPresent, kLeft, kBroken };

struct alignas(kLineBytes) WindowHeader {
  std::uint64_t magic = kWindowMagic;
  std::uint32_t version = kWindowVersion;
  std::uint32_t num_ranks = 0;
  /// Every epoch up to this one is over for this rank: its records of others may be written again.
  alignas(kLineBytes) std::atomic<std::uint64_t> retired = 0;
  /// Counted up whenever a signal is given while someone sleeps; the futex word.
  alignas(kLineBytes) std::atomic<std::uint32_t> doorbell = 0;
  std::atomic<std::uint32_t> sleepers = 0;
  /// Others have masked a rank or let one in again: this rank looks at the masks before its next operation. On a line
  /// that else no one writes, so looking is free.
  alignas(kLineBytes) std::atomic<std::uint32_t> notice = 0;
  /// How often this rank was let in again, and from which epoch on (the low kEpochBits): written by the others.
  std::atomic<std::uint64_t> admission = 0;
  /// The last epoch whose slot this rank has begun to write while it masked a rank.
  std::atomic<std::uint64_t> opened = 0;
  /// Set last, with release, after the reason.
  alignas(kLineBytes) std::atomic<Departure> departure = Departure::kPresent;
  char departure_reason[512] = {};
};

/// Offsets within a window, from one place.
class WindowLayout {
 public:
  WindowLayout(int num_ranks, int max_experts) noexcept
      : num_ranks_(static_cast<std::size_t>(num_ranks)), max_experts_(static_cast<std::size_t>(max_experts)) {}

  [[nodiscard]] std::size_t slot_bytes() const noexcept {
    return round_up(sizeof(Slot) + (num_ranks_ + max_experts_) * sizeof(std::int32_t) + num_ranks_, kLineBytes);
  }
  [[nodiscard]] std::size_t slot_offset(std::uint64_t epoch) const noexcept {
    return masked_since_offset() + round_up(num_ranks_ * sizeof(std::uint64_t), kLineBytes) +
           static_cast<std::size_t>(epoch % kNumSlots) * slot_bytes();
  }
  /// Atomic uint64 [num_ranks] behind the header: the epoch since which this window's rank masks each rank; 0: not.
  [[nodiscard]] std::size_t masked_since_offset() const noexcept { return round_up(sizeof(WindowHeader), kLineBytes); }
  [[nodiscard]] std::size_t arena_offset() const noexcept {
    return round_up(slot_offset(0) + kNumSlots * slot_bytes(), 4096);
  }

  [[nodiscard]] std::span<std::int32_t> rank_counts(Slot& slot) const noexcept {
    return {reinterpret_cast<std::int32_t*>(&slot + 1), num_ranks_};
  }
  [[nodiscard]] std::span<std::int32_t> expert_counts(Slot& slot) const noexcept {
    return {reinterpret_cast<std::int32_t*>(&slot + 1) + num_ranks_, max_experts_};
  }
  [[nodiscard]] std::span<std::uint8_t> masked(Slot& slot) const noexcept {
    return {reinterpret_cast<std::uint8_t*>(expert_counts(slot).data() + max_experts_), num_ranks_};
  }

 private:
  static constexpr std::size_t round_up(std::size_t bytes, std::size_t unit) noexcept {
    return (bytes + unit - 1) / unit * unit;
  }

  std::size_t num_ranks_;
  std::size_t max_experts_;
};

}  // namespace crossdock::host
