#include "backend/cuda/device_failure.hpp"

#include <fmt/format.h>

#include "backend/host/agreement.hpp"
#include "base/error.hpp"

namespace crossdock::cuda {

namespace {

using device::FailureKind;
using device::Obstacle;
using device::OperationKind;

std::string_view name_of(OperationKind kind) {
  switch (kind) {
    case OperationKind::kDispatch: return "low_latency_dispatch";
    case OperationKind::kCombine: return "low_latency_combine";
    case OperationKind::kWorstCaseDispatch: return "dispatch";
    case OperationKind::kCachedDispatch: return "cached dispatch";
    case OperationKind::kWorstCaseCombine: return "combine";
    case OperationKind::kRefused: break;
  }
  return "a refused operation";
}

host::OperationKind operation_of(OperationKind kind) {
  switch (kind) {
    case OperationKind::kDispatch: return host::OperationKind::kLowLatencyDispatch;
    case OperationKind::kCombine: return host::OperationKind::kLowLatencyCombine;
    case OperationKind::kRefused: return host::OperationKind::kRefused;
    case OperationKind::kWorstCaseDispatch: return host::OperationKind::kDispatch;
    case OperationKind::kCachedDispatch: return host::OperationKind::kCachedDispatch;
    case OperationKind::kWorstCaseCombine: return host::OperationKind::kCombine;
  }
  return host::OperationKind::kNone;
}

host::Announcement announcement_of(const device::Record& record) {
  host::Announcement announcement;
  announcement.kind = operation_of(record.kind);
  announcement.hidden = record.hidden;
  announcement.num_topk = record.num_topk;
  announcement.topk_dtype = static_cast<std::uint32_t>(record.id_bytes == 4 ? DataType::kInt32 : DataType::kInt64);
  announcement.num_experts = record.num_experts;
  announcement.handle_epoch = record.handle_epoch;
  announcement.max_tokens = record.max_tokens;
  announcement.row_format = record.format;
  announcement.dtype = record.dtypes & 0xFFU;
  announcement.scale_dtype = record.dtypes >> 8U;
  announcement.num_scales = record.num_scales;
  announcement.expert_alignment = record.alignment;
  announcement.has_worst_tokens = record.kind == OperationKind::kWorstCaseDispatch ? 1 : 0;
  announcement.has_weights = record.kind == OperationKind::kWorstCaseCombine && record.num_topk >= 0 ? 1 : 0;
  return announcement;
}

Error obstacle_error(const device::Failure& failure, const FailureContext& context) {
  const device::Record& theirs = failure.theirs;
  const auto error = [&](const std::string& what) {
    return make_error(ErrorCode::kInvalidArgument, "rank {}: {}: {}", failure.rank, name_of(theirs.kind), what);
  };
  switch (theirs.obstacle) {
    case Obstacle::kBadId:
      return error(fmt::format("topk_idx[{}][{}] is {}; allowed are -1 and 0 to {}", theirs.detail[0] / theirs.num_topk,
                               theirs.detail[0] % theirs.num_topk, theirs.detail[1], theirs.num_experts - 1));
    case Obstacle::kTooManyRows:
      return error(fmt::format("more than {} rows for expert {}: a token names it twice, and there is no room for that",
                               theirs.max_tokens, theirs.detail[0]));
    case Obstacle::kBadLayout:
      return error(fmt::format("num_tokens_per_rank says {} tokens for rank {}, but is_token_in_rank has {}",
                               theirs.detail[1] >> 32, theirs.detail[0],
                               static_cast<std::int32_t>(theirs.detail[1] & 0xFFFFFFFF)));
    case Obstacle::kBadGroups:
      return error(fmt::format("num_tokens_per_expert says {} for expert {}, but topk_idx selects it {} times",
                               theirs.detail[1] >> 32, theirs.detail[0],
                               static_cast<std::int32_t>(theirs.detail[1] & 0xFFFFFFFF)));
    case Obstacle::kOtherIds:
      return error(
          fmt::format("topk_idx has other ids than the dispatch of epoch {} that the handle is of", theirs.detail[0]));
    case Obstacle::kRefused:
    case Obstacle::kNone: break;
  }
  return Error(static_cast<ErrorCode>(theirs.detail[0]), context.reason_of(failure.rank, failure.epoch));
}

Error masked_error(const FailureContext& context) {
  return make_error(
      ErrorCode::kState,
      "rank {}: {}: this rank is masked by others; it takes part again once they have cleared their masks",
      context.rank, context.operation);
}

Error mismatch_error(const device::Failure& failure, const FailureContext& context) {
  const std::uint64_t own_bit = std::uint64_t{1} << static_cast<unsigned>(context.rank);
  if (((failure.first.masked | failure.theirs.masked) & own_bit) != 0) return masked_error(context);
  if (failure.first.masked != failure.theirs.masked) {
    return make_error(ErrorCode::kMismatch,
                      "{}: ranks disagree on the masked ranks: rank {} masks the bits {:#x}, rank {} {:#x}",
                      context.operation, failure.first_rank, failure.first.masked, failure.rank, failure.theirs.masked);
  }
  return host::disagreement(announcement_of(failure.first), failure.first_rank, announcement_of(failure.theirs),
                            failure.rank, context.operation);
}

}  // namespace

Error error_of(const device::Failure& failure, const FailureContext& context) {
  const auto error = [&](ErrorCode code, const std::string& what) {
    return make_error(code, "rank {}: {}: {} (epoch {} of the device)", context.rank, context.operation, what,
                      failure.epoch)
        .with_rank(failure.rank);
  };
  switch (failure.kind) {
    case FailureKind::kTimeout:
      return error(ErrorCode::kTimeout,
                   context.timeout.count() > 0
                       ? fmt::format("rank {} did not come within {} ms", failure.rank, context.timeout.count())
                       : fmt::format("rank {} did not come in time", failure.rank));
    case FailureKind::kGone: return error(ErrorCode::kPeerLost, fmt::format("rank {} died or left", failure.rank));
    case FailureKind::kObstacle: return obstacle_error(failure, context).with_rank(failure.rank);
    case FailureKind::kMismatch: return mismatch_error(failure, context).with_rank(failure.rank);
    case FailureKind::kMasked: return masked_error(context).with_rank(context.rank);
    case FailureKind::kOverflow:
      return make_error(ErrorCode::kCapacity,
                        "dispatch: rank {} would receive {} tokens, but num_worst_tokens is {} there", failure.rank,
                        failure.detail, failure.theirs.extent)
          .with_rank(failure.rank);
    case FailureKind::kLost:
      return error(ErrorCode::kPeerLost,
                   fmt::format("rank {} was lost before its rows were here; it is masked from now on, the others may "
                               "call the operation again",
                               failure.rank));
    case FailureKind::kStoring:
      return error(
          ErrorCode::kTimeout,
          fmt::format("rank {} was lost before its rows were here, and may still be storing some", failure.rank));
    case FailureKind::kBroken:
    case FailureKind::kNone: break;
  }
  return error(ErrorCode::kState, "an earlier error broke this buffer");
}

}  // namespace crossdock::cuda
