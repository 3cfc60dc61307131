// What ranks say to each other without their hosts: words at the front of each rank's window on its device.
#pragma once

#include <cstddef>
#include <cstdint>

namespace crossdock::cuda::device {

/// Operations whose records a window can hold; an operation's slot is its epoch modulo this.
inline constexpr std::uint64_t kSlots = 16;

enum class OperationKind : std::uint32_t {
  kDispatch = 1,
  kCombine = 2,
  kRefused = 3,
  kWorstCaseDispatch = 4,  ///< of throughput mode, as are the following
  kCachedDispatch = 5,
  kWorstCaseCombine = 6,  ///< with the handle of a worst-case dispatch
};

/// Why a rank does not do its part. The others learn it from its record.
enum class Obstacle : std::uint32_t {
  kNone,
  kRefused,      ///< its host refused the call: ControlLayout::reason of its window says why
  kBadId,        ///< detail[0]: which of [N, K]; detail[1]: the id
  kTooManyRows,  ///< detail[0]: the expert
  kBadLayout,    ///< the caller's counts: detail[0]: a rank; detail[1]: what the caller says << 32 | what was counted
  kBadGroups,    ///< the same of an expanded dispatch, detail[0]: an expert
  kOtherIds,     ///< a combine's are not its dispatch's; detail[0]: the epoch of that, as its host counts
};

/// A rank's announcement of one operation, in the window of every rank.
struct alignas(16) Record {
  std::uint64_t epoch;   ///< written last, with release: then the rest may be read
  std::uint64_t offset;  ///< where the rank's rows lie, from the beginning of its window
  std::uint64_t masked;  ///< bit r: the rank goes without rank r
  std::int64_t num_tokens;
  // From here on equal on all ranks.
  std::int64_t hidden;
  std::int64_t max_tokens;
  std::uint64_t handle_epoch;  ///< combine: of the dispatch
  OperationKind kind;
  std::int32_t num_topk;
  std::int32_t num_experts;
  std::uint32_t id_bytes;
  std::uint32_t format;
  std::int32_t num_scales;  ///< of throughput mode, as are the following
  std::uint32_t dtypes;     ///< DataType of x, and from the 8th bit on of the scales
  std::int32_t alignment;   ///< of the groups of an expanded dispatch; 0: not expanded
  // Each rank's own again.
  std::uint32_t is_packed;  ///< combine: only used rows
  Obstacle obstacle;
  std::int64_t detail[2];
  std::int64_t extent;  ///< worst-case dispatch: rows that the rank takes; combine of one: bytes from row to row
};
static_assert(sizeof(Record) == 128);

/// Where a rank of throughput mode takes what it receives, or has what it contributes: offsets from the beginning of
/// its window.
struct Placement {
  std::uint64_t x;
  std::uint64_t scales;
  std::uint64_t topk_idx;
  std::uint64_t topk_weights;
  std::uint64_t src_idx;
};

/// What a rank keeps for itself.
struct OwnState {
  std::uint64_t epoch;         ///< of the last operation that was begun
  std::uint64_t broken;        ///< not 0: nothing is waited for any more
  std::uint64_t failed_epoch;  ///< the last one whose failure was reported
  std::uint64_t num_failures;  ///< reported
  std::uint64_t read_epoch;    ///< every rank has read all that belongs to the operations up to this
  std::uint64_t masked;        ///< bit r: this rank goes without rank r
  std::uint64_t lost;          ///< bits of `masked`: ranks that did not come, and were not masked by the caller
  std::uint64_t last_loss;     ///< device clock
  // Written by others too, see lost_ranks.cuh.
  std::uint64_t admitted_epoch;  ///< as `epoch`, when this rank was let in again
  std::uint64_t claim;           ///< up to this stage the rank takes part; or kSealed | the first that goes without
  std::uint64_t sealed_stage;    ///< of a seal that is no more
  std::uint32_t send_ended;      ///< blocks
  std::uint32_t receive_ended;
  // Of a kernel of worst_case.hpp that runs.
  std::uint32_t is_exchanged;
  std::uint32_t rows_found;       ///< blocks that have found the rows of their selections
  std::uint64_t exchange_masked;  ///< of the block that did the exchange: BlockState::masked
  std::uint64_t exchange_lost;
  Obstacle obstacle;
  std::int64_t detail[2];
  std::uint64_t ordinals[kSlots];  ///< of the operations in the slots, as their host counts them
};

/// Offsets from the beginning of a window, which begins with this.
class ControlLayout {
 public:
  static constexpr std::size_t kReasonBytes = 512;

  constexpr ControlLayout(int num_ranks, int max_experts)
      : num_ranks_(static_cast<std::size_t>(num_ranks)), max_experts_(static_cast<std::size_t>(max_experts)) {}

  /// What `rank` says in this window.
  [[nodiscard]] constexpr std::size_t record(std::uint64_t slot, int rank) const {
    return records() + (slot * num_ranks_ + static_cast<std::size_t>(rank)) * kRecordStride;
  }
  /// uint64: the last epoch of this slot in which `rank` has read everything of this window.
  [[nodiscard]] constexpr std::size_t read(std::uint64_t slot, int rank) const {
    return reads() + (slot * num_ranks_ + static_cast<std::size_t>(rank)) * sizeof(std::uint64_t);
  }
  /// uint64: the last epoch of this slot in which `rank` has stored all its rows in this window.
  [[nodiscard]] constexpr std::size_t sent(std::uint64_t slot, int rank) const {
    return sents() + (slot * num_ranks_ + static_cast<std::size_t>(rank)) * sizeof(std::uint64_t);
  }
  /// Placement of `rank`.
  [[nodiscard]] constexpr std::size_t placement(std::uint64_t slot, int rank) const {
    return placements() + (slot * num_ranks_ + static_cast<std::size_t>(rank)) * sizeof(Placement);
  }
  /// int32 [max_experts]: selections of each expert by `rank`; in throughput mode, unless the dispatch is expanded, of
  /// this window's experts only.
  [[nodiscard]] constexpr std::size_t counts(std::uint64_t slot, int rank) const {
    return all_counts() + (slot * num_ranks_ + static_cast<std::size_t>(rank)) * max_experts_ * sizeof(std::int32_t);
  }
  /// int32 [R]: rows that `rank` sends to each rank, in throughput mode.
  [[nodiscard]] constexpr std::size_t rank_counts(std::uint64_t slot, int rank) const {
    return all_rank_counts() + (slot * num_ranks_ + static_cast<std::size_t>(rank)) * num_ranks_ * sizeof(std::int32_t);
  }
  /// Text: why this window's rank refused the operation.
  [[nodiscard]] constexpr std::size_t reason(std::uint64_t slot) const {
    return all_rank_counts() + kSlots * num_ranks_ * num_ranks_ * sizeof(std::int32_t) + slot * kReasonBytes;
  }
  /// What counting of this window's rank works on, see CountScratch: [R] and [max_experts] twice each, and 4 words.
  [[nodiscard]] constexpr std::size_t count_scratch() const { return reason(kSlots); }
  [[nodiscard]] constexpr std::size_t bytes() const {
    const std::size_t scratch = 2 * (num_ranks_ + max_experts_ + 1) * sizeof(std::int32_t) + 4 * sizeof(std::uint64_t);
    return (count_scratch() + scratch + kPageBytes - 1) / kPageBytes * kPageBytes;
  }

 private:
  static constexpr std::size_t kRecordStride = 128;
  static constexpr std::size_t kPageBytes = 4096;

  [[nodiscard]] static constexpr std::size_t records() { return 512; }
  [[nodiscard]] constexpr std::size_t reads() const { return records() + kSlots * num_ranks_ * kRecordStride; }
  [[nodiscard]] constexpr std::size_t sents() const { return reads() + kSlots * num_ranks_ * sizeof(std::uint64_t); }
  [[nodiscard]] constexpr std::size_t placements() const {
    return sents() + kSlots * num_ranks_ * sizeof(std::uint64_t);
  }
  [[nodiscard]] constexpr std::size_t all_counts() const {
    return placements() + kSlots * num_ranks_ * sizeof(Placement);
  }
  [[nodiscard]] constexpr std::size_t all_rank_counts() const {
    return all_counts() + kSlots * num_ranks_ * max_experts_ * sizeof(std::int32_t);
  }

  std::size_t num_ranks_;
  std::size_t max_experts_;
};
static_assert(sizeof(OwnState) <= 512 && sizeof(Record) <= 128);

/// What a rank stages begins with this. It says which operation did so last: a captured operation stages in the same
/// memory whenever it is replayed, and so may those of one graph.
struct ParcelHeader {
  std::uint64_t stamp;  ///< kStamp ^ epoch, so that what is not a header is known
  std::uint64_t epoch;

  static constexpr std::uint64_t kStamp = 0x6c65'6372'6170'2d78U;
  static constexpr std::int64_t kBytes = 128;  ///< up to what is staged
};

/// Why an operation failed, for its host.
enum class FailureKind : std::uint32_t {
  kNone,
  kTimeout,   ///< `rank` did not come
  kGone,      ///< the host says that `rank` will not come
  kBroken,    ///< an earlier operation failed
  kObstacle,  ///< theirs.obstacle
  kMismatch,  ///< first and theirs differ
  kMasked,    ///< the others go without this rank
  kOverflow,  ///< `rank` would receive `detail` rows, more than it takes
  kLost,      ///< `rank` was given up after it had announced rows, and they are not here
  kStoring,   ///< the same, and it may still be storing them here
};

/// Does such a failure leave ranks at different operations?
[[nodiscard]] constexpr bool breaks_buffer(FailureKind kind) noexcept {
  return kind == FailureKind::kTimeout || kind == FailureKind::kGone || kind == FailureKind::kStoring;
}

/// In pinned memory. `ordinal` is written last.
struct Failure {
  std::uint64_t ordinal;
  FailureKind kind;
  std::int32_t rank;
  std::uint64_t epoch;
  std::int32_t first_rank;  ///< that takes part
  std::int64_t detail;
  Record first;   ///< of that rank
  Record theirs;  ///< of `rank`
};

/// What a rank's kernels and its host share; pinned.
struct Mailbox {
  static constexpr std::uint64_t kFailures = 64;

  std::uint64_t num_failures;   ///< counted up after an entry of `failures` was written
  std::uint64_t read_ordinal;   ///< every rank has read all that belongs to the operations up to this
  std::uint64_t lost;           ///< OwnState::lost
  std::uint64_t gone;           ///< bit r: rank r will not come, or r is this rank and masked; written by the host
  std::uint64_t ended;          ///< bit r: rank r has left or its process has ended; written by the host
  Failure failures[kFailures];  ///< an operation's is at its ordinal modulo this
};

}  // namespace crossdock::cuda::device
