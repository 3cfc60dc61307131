// What one rank got in a random world, against what the oracle says.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include <crossdock/buffer.hpp>

#include "plan/route.hpp"
#include "support/random_world.hpp"
#include "support/world_tensor.hpp"

namespace crossdock::testing {

/// Collects differences. Results of asynchronous operations are checked after their events have completed.
class WorldChecks {
 public:
  WorldChecks(const RandomWorld& world, int rank, const TensorPlace& place);

  void check(const DispatchLayout& layout);
  void check(const DispatchOutput& output);
  void check(const DispatchHandle& handle, int num_channels);
  void check_cached(const DispatchOutput& output);
  void check(const CombineOutput& output);
  void check_combine_input(const Tensor& tensor);

  [[nodiscard]] const std::vector<std::string>& differences() const noexcept { return differences_.lines(); }

 private:
  [[nodiscard]] std::int64_t num_rows() const { return world_.num_recv_rows(rank_); }
  /// Rows from each rank to each rank.
  [[nodiscard]] plan::CountMatrix counts_of(const std::vector<reference::DispatchedRank>& ranks) const;
  void check_parity(const DispatchHandle& handle, int num_channels);
  void check_topk(const DispatchOutput& output);
  void check_scales(const DispatchOutput& output, const MatrixShape& shape, const std::vector<std::byte>& expected);
  void check_flags(const Tensor& is_token_in_rank);
  void check_values(const std::string& name, const Tensor& got, const std::vector<std::int32_t>& expected);

  const RandomWorld& world_;
  int rank_;
  const reference::DispatchRank& input_;
  const reference::DispatchedRank& routed_;
  const reference::DispatchedRank& expected_;
  Differences differences_;
};

}  // namespace crossdock::testing
