#include "backend/host/agreement.hpp"

#include <fmt/ranges.h>

#include <algorithm>
#include <string>
#include <vector>

#include <crossdock/low_latency.hpp>
#include <crossdock/types.hpp>

#include "backend/host/signals.hpp"
#include "base/error.hpp"

namespace crossdock::host {

namespace {

std::string describe_kind(const Announcement& a) {
  switch (a.kind) {
    case OperationKind::kNone: return "nothing";
    case OperationKind::kRefused: return "a refused operation";
    case OperationKind::kDispatch: return "dispatch";
    case OperationKind::kCachedDispatch: return "cached dispatch";
    case OperationKind::kCombine: return "combine";
    case OperationKind::kLowLatencyDispatch: return "low_latency_dispatch";
    case OperationKind::kLowLatencyCombine: return "low_latency_combine";
  }
  return "unknown";
}

std::string describe_dtype(std::uint32_t dtype) { return std::string(name_of(static_cast<DataType>(dtype))); }

std::string describe_optional(std::int32_t count) { return count < 0 ? "none" : std::to_string(count); }

std::string describe_flag(std::uint32_t flag) { return flag != 0 ? "present" : "absent"; }

std::string describe_row_format(const Announcement& a) {
  if (a.kind == OperationKind::kLowLatencyCombine) return a.row_format != 0 ? "LogFMT" : "bfloat16";
  switch (static_cast<RowFormat>(a.row_format)) {
    case RowFormat::kBfloat16: return "bfloat16";
    case RowFormat::kFloat8: return "FP8";
    case RowFormat::kFloat8PowerOfTwo: return "FP8 with scales that are powers of two";
    case RowFormat::kFloat8Ue8m0: return "FP8 with UE8M0 scales";
  }
  return "unknown";
}

/// One thing that must be equal on all ranks: its name for people and how its value reads.
struct Field {
  std::string_view name;
  std::string (*describe)(const Announcement&);
};

constexpr Field kFields[] = {
    {"the operation", describe_kind},
    {"the dtype of x", [](const Announcement& a) { return describe_dtype(a.dtype); }},
    {"hidden", [](const Announcement& a) { return std::to_string(a.hidden); }},
    {"the number of scales", [](const Announcement& a) { return describe_optional(a.num_scales); }},
    {"the dtype of the scales", [](const Announcement& a) { return describe_dtype(a.scale_dtype); }},
    {"top-k", [](const Announcement& a) { return describe_optional(a.num_topk); }},
    {"the dtype of topk_idx", [](const Announcement& a) { return describe_dtype(a.topk_dtype); }},
    {"the number of experts", [](const Announcement& a) { return std::to_string(a.num_experts); }},
    {"expand", [](const Announcement& a) { return describe_flag(a.expert_alignment > 0 ? 1 : 0); }},
    {"the expert_alignment of an expanded dispatch",
     [](const Announcement& a) { return std::to_string(a.expert_alignment); }},
    {"num_worst_tokens", [](const Announcement& a) { return describe_flag(a.has_worst_tokens); }},
    {"topk_weights", [](const Announcement& a) { return describe_flag(a.has_weights); }},
    {"num_max_dispatch_tokens_per_rank", [](const Announcement& a) { return std::to_string(a.max_tokens); }},
    {"the row format", describe_row_format},
    {"the epoch of the handle's dispatch", [](const Announcement& a) { return std::to_string(a.handle_epoch); }},
};

bool is_equal(const Announcement& a, const Announcement& b) {
  return a.kind == b.kind && a.dtype == b.dtype && a.hidden == b.hidden && a.scale_dtype == b.scale_dtype &&
         a.num_scales == b.num_scales && a.num_topk == b.num_topk && a.topk_dtype == b.topk_dtype &&
         a.num_experts == b.num_experts && a.expert_alignment == b.expert_alignment &&
         a.has_worst_tokens == b.has_worst_tokens && a.has_weights == b.has_weights &&
         a.handle_epoch == b.handle_epoch && a.max_tokens == b.max_tokens && a.row_format == b.row_format;
}

[[noreturn]] void throw_mismatch(const Windows& windows, std::uint64_t epoch, int first_rank, int rank,
                                 std::string_view operation) {
  throw disagreement(windows.slot(first_rank, epoch).announcement, first_rank, windows.slot(rank, epoch).announcement,
                     rank, operation);
}

std::vector<int> masks_of(const Windows& windows, std::uint64_t epoch, int rank) {
  Slot& slot = windows.slot(rank, epoch);
  std::vector<int> result;
  if (slot.announcement.num_masked == 0) return result;
  const auto flags = windows.layout.masked(slot);
  for (int r = 0; r < windows.num_ranks(); ++r) {
    if (flags[static_cast<std::size_t>(r)] != 0) result.push_back(r);
  }
  return result;
}

std::string describe_masks(const std::vector<int>& ranks) {
  return ranks.empty() ? "no rank" : fmt::format("rank(s) {}", fmt::join(ranks, ", "));
}

/// Has announced this epoch, not a later one, and no refusal.
bool has_announced(const Windows& windows, const Masks& masks, int rank, std::uint64_t epoch) {
  return windows.signal_of(rank, Phase::kAnnounce, epoch).load(std::memory_order_acquire) ==
             masks.signal_value(rank, epoch) &&
         windows.slot(rank, epoch).announcement.kind != OperationKind::kRefused;
}

}  // namespace

Error disagreement(const Announcement& first, int first_rank, const Announcement& other, int rank,
                   std::string_view operation) {
  for (const Field& field : kFields) {
    const std::string at_first = field.describe(first);
    const std::string at_other = field.describe(other);
    if (at_first == at_other) continue;
    Error error = make_error(ErrorCode::kMismatch, "{}: ranks disagree on {}: rank {} has {}, rank {} has {}",
                             operation, field.name, first_rank, at_first, rank, at_other);
    return error.with_rank(rank);
  }
  Error error = make_error(ErrorCode::kMismatch, "{}: rank {} and rank {} disagree", operation, first_rank, rank);
  return error.with_rank(rank);
}

void check_masks(const Windows& windows, const Masks& masks, std::uint64_t epoch, std::string_view operation) {
  std::vector<int> mine;
  for (int rank = 0; rank < windows.num_ranks(); ++rank) {
    if (masks.is_masked(rank, epoch)) mine.push_back(rank);
  }
  std::vector<int> masked_by;
  int differing = -1;
  for (int rank = 0; rank < windows.num_ranks(); ++rank) {
    if (rank == windows.rank || masks.is_masked(rank, epoch) || !has_announced(windows, masks, rank, epoch)) continue;
    const std::vector<int> theirs = masks_of(windows, epoch, rank);
    if (std::ranges::find(theirs, windows.rank) != theirs.end()) masked_by.push_back(rank);
    if (theirs != mine && differing < 0) differing = rank;
  }
  if (!masked_by.empty()) throw masked_error(windows.rank, operation, masked_by);
  if (differing < 0) return;
  Error error = make_error(ErrorCode::kMismatch, "{}: ranks disagree on the masked ranks: rank {} masks {}, rank {} {}",
                           operation, windows.rank, describe_masks(mine), differing,
                           describe_masks(masks_of(windows, epoch, differing)));
  throw error.with_rank(differing);
}

void check_agreement(const Windows& windows, const Signals& signals, std::uint64_t epoch, std::string_view operation) {
  int first = -1;
  int refusing = -1;
  int differing = -1;
  bool has_masks = signals.masks().in_use();
  for (int rank = 0; rank < windows.num_ranks(); ++rank) {
    if (signals.is_excluded(rank, epoch)) continue;
    const Announcement& announced = windows.slot(rank, epoch).announcement;
    has_masks |= announced.num_masked != 0;
    if (announced.kind == OperationKind::kRefused && refusing < 0) refusing = rank;
    if (first < 0) first = rank;
    if (differing < 0 && !is_equal(windows.slot(first, epoch).announcement, announced)) differing = rank;
  }
  if (has_masks) check_masks(windows, signals.masks(), epoch, operation);
  if (refusing >= 0) {
    const Announcement& refusal = windows.slot(refusing, epoch).announcement;
    Error error(static_cast<ErrorCode>(refusal.refusal_code), refusal.reason);
    throw error.with_rank(refusing);
  }
  if (differing >= 0) throw_mismatch(windows, epoch, first, differing, operation);
}

}  // namespace crossdock::host
