#include "bootstrap/failure.hpp"

#include <algorithm>

#include <fmt/format.h>

#include "base/error.hpp"

namespace crossdock::bootstrap {

namespace {

std::string title(const Progress& progress) {
  if (progress.operation == Operation::kRendezvous) return "bootstrap rendezvous";
  return fmt::format("bootstrap {} {}", name_of(progress.operation), progress.round);
}

Failure describe(const Progress& progress, ErrorCode code, int rank) {
  Failure result;
  result.code = code;
  result.operation = progress.operation;
  result.round = progress.round;
  result.rank = rank;
  result.expected = static_cast<int>(progress.arrived.size());
  result.seen = static_cast<int>(std::count(progress.arrived.begin(), progress.arrived.end(), true));
  return result;
}

}  // namespace

std::string_view name_of(Operation operation) noexcept {
  switch (operation) {
    case Operation::kRendezvous: return "rendezvous";
    case Operation::kAllGather: return "all_gather";
    case Operation::kBarrier: return "barrier";
  }
  return "unknown";
}

std::string list_ranks(const std::vector<bool>& marks, bool wanted) {
  constexpr int kMaxListed = 16;
  std::string result;
  int count = 0;
  for (std::size_t rank = 0; rank < marks.size(); ++rank) {
    if (marks[rank] != wanted) continue;
    if (++count <= kMaxListed) result += fmt::format("{}{}", count > 1 ? ", " : "", rank);
  }
  if (count > kMaxListed) result += fmt::format(" and {} more", count - kMaxListed);
  return result;
}

Failure missing_ranks(const Progress& progress, std::chrono::milliseconds timeout) {
  const auto first = std::find(progress.arrived.begin(), progress.arrived.end(), false);
  Failure result =
      describe(progress, ErrorCode::kTimeout, static_cast<int>(std::distance(progress.arrived.begin(), first)));
  const int missing = result.expected - result.seen;
  result.text =
      fmt::format("{}: {} {} of {} did not come within {} ms", title(progress), missing == 1 ? "rank" : "ranks",
                  list_ranks(progress.arrived, false), result.expected, timeout.count());
  return result;
}

Failure lost_rank(const Progress& progress, int rank, std::string_view how) {
  Failure result = describe(progress, ErrorCode::kPeerLost, rank);
  result.text = fmt::format("{}: rank {} {}", title(progress), rank, how);
  return result;
}

Failure different_calls(const Progress& progress, int rank, Operation called) {
  Failure result = describe(progress, ErrorCode::kBootstrap, rank);
  result.text = fmt::format("{}: rank {} called {} instead; every rank must make the same calls in the same order",
                            title(progress), rank, name_of(called));
  return result;
}

Error to_error(const Failure& failure) {
  Error error = make_error(failure.code, "{}", failure.text);
  error.with_wait({.operation = "bootstrap",
                   .phase = std::string(name_of(failure.operation)),
                   .epoch = failure.round,
                   .rank = failure.rank,
                   .expected = static_cast<std::uint64_t>(failure.expected),
                   .seen = static_cast<std::uint64_t>(failure.seen)});
  return error;
}

}  // namespace crossdock::bootstrap
