// Low-latency dispatch: each rank stages its tokens once in its own window; when all have, each fetches the rows of its
// experts and stores them where they belong. Sending waits for no one, and nothing is written into another's window.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <memory_resource>
#include <span>
#include <vector>

#include "backend/backend.hpp"
#include "backend/host/host_backend.hpp"
#include "backend/host/kernels.hpp"
#include "backend/host/low_latency_parcel.hpp"
#include "base/bfloat16.hpp"
#include "plan/experts.hpp"

namespace crossdock::host {

class LowLatencyDispatch final : public backend::LowLatencyDispatchOperation {
 public:
  LowLatencyDispatch(std::shared_ptr<Group> group, backend::LowLatencyDispatchRequest request);

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
  [[nodiscard]] std::size_t scale_bytes() const noexcept;
  [[nodiscard]] const std::byte* x_row(std::int64_t token) const noexcept;
  [[nodiscard]] bool reads_own_rows_from_x() const noexcept { return request_.x_stays() && !is_float8(); }
  [[nodiscard]] bool is_read_from_parcel(std::int32_t expert) const noexcept;
  void allocate();
  /// The handle's tensors, as parts of one slab.
  void take_records(std::int64_t local, std::int64_t places);
  void count_selections();
  void stage_rows();
  void stage_float8_rows(Stores stores);
  template <class Stage>
  void stage_each_token(Stage stage) const;
  void stage_entries();
  void announce() const;
  void take_counts();
  void find_places(std::span<std::int32_t> next, std::span<const std::int32_t> begins);
  void count_received() const;
  [[nodiscard]] bool has_room(std::int32_t expert, std::span<const std::int64_t> next) const noexcept;
  void fetch_rows();
  void fetch_from(int source, std::span<std::int64_t> next, Stores stores) const;
  void store_scales(const std::byte* scales, std::int64_t place) const;

  std::shared_ptr<Group> group_;
  backend::LowLatencyDispatchRequest request_;
  LowLatencyHandle::State& handle_;
  plan::ExpertMap experts_;
  /// Small arrays lie in the operation itself, larger ones come from the group's recycler.
  std::array<std::byte, 4096> scratch_bytes_;
  std::pmr::monotonic_buffer_resource scratch_;
  std::pmr::vector<std::int32_t> expert_of_;  ///< [N, K]
  std::pmr::vector<std::int32_t> num_for_;    ///< [E] selections of each expert by this rank
  std::pmr::vector<std::int32_t> num_to_;     ///< [R] selections of each rank's experts by this rank
  /// What a source staged for this rank.
  struct Parcel {
    bool takes_part = false;   ///< the source, in this operation
    std::uint64_t offset = 0;  ///< in its window
    std::int64_t num_tokens = 0;
    std::int64_t first_row = 0;  ///< among its entries
    std::int64_t num_rows = 0;
  };
  std::pmr::vector<Parcel> parcels_;  ///< [R]
  Tensor parcel_;
  Tensor records_;  ///< what the handle's count, layout_range and src_info are parts of
  Tensor scales_;   ///< [L, columns, R * M]: contiguous, the result is its transposed view
  backend::LowLatencyDispatchResult result_;
};

}  // namespace crossdock::host
