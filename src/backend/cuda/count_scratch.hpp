// What counting of a worst-case dispatch works on; one operation of the queue at a time.
#pragma once

#include <cstdint>

#include "backend/cuda/arrays.hpp"

namespace crossdock::cuda {

/// See device::LayoutScratch and device::LayoutCounts. REQUIRES: the device is the current one.
struct CountScratch {
  CountScratch(std::size_t num_ranks, std::size_t max_experts)
      : rank_totals(make_device_array<std::int32_t>(num_ranks)),
        expert_totals(make_device_array<std::int32_t>(max_experts)),
        bad_id(make_device_array<std::uint64_t>(1)),
        blocks_ended(make_device_array<std::uint32_t>(1)),
        found_per_rank(make_device_array<std::int32_t>(num_ranks)),
        found_per_expert(make_device_array<std::int32_t>(max_experts)),
        found_bad_id(make_device_array<std::uint64_t>(1)) {}

  DeviceArray<std::int32_t> rank_totals;
  DeviceArray<std::int32_t> expert_totals;
  DeviceArray<std::uint64_t> bad_id;
  DeviceArray<std::uint32_t> blocks_ended;
  DeviceArray<std::int32_t> found_per_rank;
  DeviceArray<std::int32_t> found_per_expert;
  DeviceArray<std::uint64_t> found_bad_id;
};

}  // namespace crossdock::cuda
