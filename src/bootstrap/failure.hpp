// Why a group failed: one description from which every rank raises the same error, in process or over the network.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include <crossdock/error.hpp>

namespace crossdock::bootstrap {

enum class Operation : std::uint8_t { kRendezvous, kAllGather, kBarrier };

[[nodiscard]] std::string_view name_of(Operation operation) noexcept;

struct Failure {
  ErrorCode code = ErrorCode::kBootstrap;
  Operation operation = Operation::kRendezvous;
  std::uint64_t round = 0;  ///< number of the collective in its group, from 1; 0 for the rendezvous
  int rank = -1;            ///< the rank at fault, the first of them if several, or -1
  int expected = 0;         ///< ranks in the group
  int seen = 0;             ///< ranks that had come
  std::string text;
};

/// How far a collective had come when it failed.
struct Progress {
  Operation operation = Operation::kRendezvous;
  std::uint64_t round = 0;
  const std::vector<bool>& arrived;  ///< [size]
};

/// kTimeout that names the ranks which had not arrived.
[[nodiscard]] Failure missing_ranks(const Progress& progress, std::chrono::milliseconds timeout);
/// kPeerLost; `how` completes the sentence "rank 3 ...".
[[nodiscard]] Failure lost_rank(const Progress& progress, int rank, std::string_view how);
/// kBootstrap: `rank` called `called` while others are in the collective of `progress`.
[[nodiscard]] Failure different_calls(const Progress& progress, int rank, Operation called);

/// "2, 5, 7", shortened after sixteen ranks.
[[nodiscard]] std::string list_ranks(const std::vector<bool>& marks, bool wanted);

[[nodiscard]] Error to_error(const Failure& failure);

}  // namespace crossdock::bootstrap
