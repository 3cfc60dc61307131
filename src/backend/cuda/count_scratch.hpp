// What counting of a worst-case dispatch works on, one operation of the queue at a time.
#pragma once

#include <cstddef>
#include <cstdint>

#include "backend/cuda/device/control.hpp"
#include "backend/cuda/device/layout.hpp"

namespace crossdock::cuda {

/// In the rank's own window, which is zeroed when it is made.
class CountScratch {
 public:
  CountScratch() = default;
  CountScratch(std::byte* window, std::size_t num_ranks, std::size_t max_experts, const device::ControlLayout& layout) {
    auto* word = reinterpret_cast<std::uint64_t*>(window + layout.count_scratch());
    bad_id_ = word++;
    found_bad_id_ = word++;
    blocks_ended_ = reinterpret_cast<std::uint32_t*>(word++);
    auto* count = reinterpret_cast<std::int32_t*>(word);
    const auto take = [&](std::size_t entries) {
      std::int32_t* const begin = count;
      count += entries;
      return begin;
    };
    rank_totals_ = take(num_ranks);
    found_per_rank_ = take(num_ranks);
    expert_totals_ = take(max_experts);
    found_per_expert_ = take(max_experts);
  }

  /// `masks` and `block_counts` are the operation's own.
  [[nodiscard]] device::LayoutScratch scratch(std::uint64_t* masks, std::int32_t* block_counts) const noexcept {
    return {.masks = masks,
            .block_counts = block_counts,
            .rank_totals = rank_totals_,
            .expert_totals = expert_totals_,
            .bad_id = bad_id_};
  }
  [[nodiscard]] device::LayoutCounts found() const noexcept {
    return {found_per_rank_, found_per_expert_, found_bad_id_};
  }
  [[nodiscard]] std::uint32_t* blocks_ended() const noexcept { return blocks_ended_; }

 private:
  std::uint64_t* bad_id_ = nullptr;
  std::uint64_t* found_bad_id_ = nullptr;
  std::uint32_t* blocks_ended_ = nullptr;
  std::int32_t* rank_totals_ = nullptr;
  std::int32_t* found_per_rank_ = nullptr;
  std::int32_t* expert_totals_ = nullptr;
  std::int32_t* found_per_expert_ = nullptr;
};

}  // namespace crossdock::cuda
