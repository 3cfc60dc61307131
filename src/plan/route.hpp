// The destinations of each token of one rank, and the places of its rows there.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace crossdock::plan {

/// Destinations of token t are entries [begin[t], begin[t + 1]), ranks ascending; entry i is row `row[i]` of the block
/// that this rank sends to `rank[i]` (blocks keep token order). Of an expanded dispatch (expert_groups.hpp) an entry is
/// a selection, and `row[i]` a row of the receiver's tensor.
struct RouteTable {
  std::vector<std::int32_t> begin;   ///< [num_tokens + 1]
  std::vector<std::int32_t> rank;    ///< [entries]
  std::vector<std::int32_t> row;     ///< [entries]
  std::vector<std::int32_t> column;  ///< [entries] of topk_idx, of an expanded dispatch; else empty

  [[nodiscard]] std::int64_t num_tokens() const noexcept { return static_cast<std::int64_t>(begin.size()) - 1; }
};

/// From the membership table [num_tokens, num_ranks] (0 or not 0).
[[nodiscard]] RouteTable make_route_table(std::span<const std::uint8_t> is_token_in_rank, std::int64_t num_tokens,
                                          int num_ranks);

/// Rows that go from each rank to each rank: [src][dst], row-major [R, R].
class CountMatrix {
 public:
  explicit CountMatrix(int num_ranks)
      : num_ranks_(num_ranks), counts_(static_cast<std::size_t>(num_ranks) * static_cast<std::size_t>(num_ranks)) {}

  [[nodiscard]] int num_ranks() const noexcept { return num_ranks_; }
  [[nodiscard]] std::int32_t& at(int src, int dst) noexcept { return counts_[index(src, dst)]; }
  [[nodiscard]] std::int32_t at(int src, int dst) const noexcept { return counts_[index(src, dst)]; }
  [[nodiscard]] std::span<std::int32_t> row(int src) noexcept {
    return {&counts_[index(src, 0)], static_cast<std::size_t>(num_ranks_)};
  }
  /// First row of src's block among the rows that dst receives. The sum over smaller sources.
  [[nodiscard]] std::int64_t row_begin(int src, int dst) const noexcept;
  /// Rows that dst receives.
  [[nodiscard]] std::int64_t num_recv(int dst) const noexcept { return row_begin(num_ranks_, dst); }

 private:
  [[nodiscard]] std::size_t index(int src, int dst) const noexcept {
    return static_cast<std::size_t>(src) * static_cast<std::size_t>(num_ranks_) + static_cast<std::size_t>(dst);
  }

  int num_ranks_;
  std::vector<std::int32_t> counts_;
};

}  // namespace crossdock::plan
