#include "backend/host/agreement.hpp"

#include <string>

#include <crossdock/types.hpp>

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
    {"num_worst_tokens", [](const Announcement& a) { return describe_flag(a.has_worst_tokens); }},
    {"topk_weights", [](const Announcement& a) { return describe_flag(a.has_weights); }},
    {"num_max_dispatch_tokens_per_rank", [](const Announcement& a) { return std::to_string(a.max_tokens); }},
    {"the row format", [](const Announcement& a) { return std::to_string(a.row_format); }},
    {"the epoch of the handle's dispatch", [](const Announcement& a) { return std::to_string(a.handle_epoch); }},
};

bool is_equal(const Announcement& a, const Announcement& b) {
  return a.kind == b.kind && a.dtype == b.dtype && a.hidden == b.hidden && a.scale_dtype == b.scale_dtype &&
         a.num_scales == b.num_scales && a.num_topk == b.num_topk && a.topk_dtype == b.topk_dtype &&
         a.num_experts == b.num_experts && a.has_worst_tokens == b.has_worst_tokens && a.has_weights == b.has_weights &&
         a.handle_epoch == b.handle_epoch && a.max_tokens == b.max_tokens && a.row_format == b.row_format;
}

[[noreturn]] void throw_mismatch(const Announcement& first, const Announcement& other, int rank,
                                 std::string_view operation) {
  for (const Field& field : kFields) {
    const std::string at_first = field.describe(first);
    const std::string at_other = field.describe(other);
    if (at_first == at_other) continue;
    Error error = make_error(ErrorCode::kMismatch, "{}: ranks disagree on {}: rank 0 has {}, rank {} has {}", operation,
                             field.name, at_first, rank, at_other);
    throw error.with_rank(rank);
  }
  throw make_error(ErrorCode::kMismatch, "{}: rank 0 and rank {} disagree", operation, rank).with_rank(rank);
}

}  // namespace

void check_agreement(const Windows& windows, std::uint64_t epoch, std::string_view operation) {
  for (int rank = 0; rank < windows.num_ranks(); ++rank) {
    const Announcement& announced = windows.slot(rank, epoch).announcement;
    if (announced.kind != OperationKind::kRefused) continue;
    Error error(static_cast<ErrorCode>(announced.refusal_code), announced.reason);
    throw error.with_rank(rank);
  }
  const Announcement& first = windows.slot(0, epoch).announcement;
  for (int rank = 1; rank < windows.num_ranks(); ++rank) {
    const Announcement& other = windows.slot(rank, epoch).announcement;
    if (!is_equal(first, other)) throw_mismatch(first, other, rank, operation);
  }
}

}  // namespace crossdock::host
