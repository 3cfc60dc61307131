// Where the rows of an expanded dispatch lie.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "plan/experts.hpp"
#include "plan/layout.hpp"
#include "plan/route.hpp"

namespace crossdock::plan {

/// A rank's tensor holds a group of rows for each of its experts, ascending; each group starts at a multiple of the
/// alignment, and the last one is followed by padding up to such a multiple. Within a group rows are ordered by (source
/// rank, source token, column).
class ExpertGroups {
 public:
  /// `selections` [R, E]: how often each rank selects each expert. REQUIRES: alignment >= 1.
  ExpertGroups(std::vector<std::int32_t> selections, int num_ranks, const ExpertMap& experts, int alignment);

  [[nodiscard]] int alignment() const noexcept { return alignment_; }
  [[nodiscard]] const ExpertMap& experts() const noexcept { return experts_; }
  [[nodiscard]] std::int32_t count(int src, int expert) const noexcept {
    return selections_[static_cast<std::size_t>(src) * static_cast<std::size_t>(experts_.num_experts()) +
                       static_cast<std::size_t>(expert)];
  }
  /// First of the rows that a rank sends to an expert, in the tensor of the expert's owner; with `src` = R the end of
  /// its group.
  [[nodiscard]] std::int64_t row_begin(int src, int expert) const noexcept;
  /// Behind the padding that follows the expert's group.
  [[nodiscard]] std::int64_t padded_end(int expert) const noexcept { return round_up(row_begin(num_ranks_, expert)); }
  /// Rows of a rank's tensor, padding included.
  [[nodiscard]] std::int64_t num_rows(int rank) const noexcept;
  /// Of them those that a rank sends.
  [[nodiscard]] std::int64_t num_sent(int src, int dst) const noexcept;

 private:
  [[nodiscard]] std::int64_t round_up(std::int64_t rows) const noexcept {
    return (rows + alignment_ - 1) / alignment_ * alignment_;
  }

  std::vector<std::int32_t> selections_;  ///< [R, E]
  int num_ranks_;
  ExpertMap experts_;
  int alignment_;
  std::vector<std::int64_t> begin_;  ///< [E] first row of the group
};

/// The rows that a rank sends in an expanded dispatch, a token's by ascending (rank, column); row numbers are those of
/// the receiver's tensor. REQUIRES: ids are -1 or experts, and are those that `groups` counts; row numbers fit.
[[nodiscard]] RouteTable make_expanded_route(const TopkIds& topk, const ExpertGroups& groups, int rank);

}  // namespace crossdock::plan
