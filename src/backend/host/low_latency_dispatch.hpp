// Low-latency dispatch: one exchange of counts and places, then every row goes to its place in each expert's block.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "backend/backend.hpp"
#include "backend/host/host_backend.hpp"
#include "plan/experts.hpp"

namespace crossdock::host {

class LowLatencyDispatch final : public backend::LowLatencyDispatchOperation {
 public:
  LowLatencyDispatch(std::shared_ptr<Group> group, const backend::LowLatencyDispatchRequest& request);

  void send(const Deadline& deadline);
  [[nodiscard]] const backend::LowLatencyDispatchResult& result() const override { return result_; }
  void receive(const Deadline& deadline) override;
  void abandon() noexcept override { group_->signals.retire(request_.epoch); }

 private:
  [[nodiscard]] std::int64_t places_per_expert() const noexcept { return group_->num_ranks() * handle_.max_tokens; }
  [[nodiscard]] bool is_float8() const noexcept { return request_.format != RowFormat::kBfloat16; }
  /// Columns of the scales tensor; 0 without scales.
  [[nodiscard]] std::int64_t scale_columns() const noexcept;
  [[nodiscard]] std::size_t row_bytes() const noexcept;
  void allocate();
  void announce();
  void agree(const Deadline& deadline);
  void write_ranges();
  void assign_places();
  void send_rows();
  void send_scales(std::span<const float> scales, std::int64_t token) const;

  std::shared_ptr<Group> group_;
  backend::LowLatencyDispatchRequest request_;
  LowLatencyHandle::State& handle_;
  plan::ExpertMap experts_;
  std::vector<std::int32_t> expert_of_;  ///< [N, K]
  std::vector<std::int32_t> num_for_;    ///< [E] selections of each expert by this rank
  Tensor scales_;                        ///< [L, columns, R * M]: contiguous, the result is its transposed view
  backend::LowLatencyDispatchResult result_;
};

}  // namespace crossdock::host
