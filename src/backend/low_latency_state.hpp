// What is remembered of a low-latency dispatch.
#pragma once

#include <cstdint>

#include <crossdock/event.hpp>
#include <crossdock/low_latency.hpp>

#include "base/recycling.hpp"

namespace crossdock {

/// Written by the dispatch that makes it until it has been received, constant from then on.
class LowLatencyHandle::State {
 public:
  explicit State(const std::shared_ptr<std::pmr::memory_resource>& recycler)
      : places(RecyclingAllocator<Place>(recycler)) {}

  std::uint64_t buffer_id = 0;  ///< of the buffer, equal to no other buffer's of this process
  std::uint64_t epoch = 0;      ///< of the dispatch, equal on all ranks
  std::int64_t num_tokens = 0;
  std::uint64_t ids_digest = 0;  ///< of topk_idx, see core/ids_digest.hpp
  int num_topk = 0;
  std::int64_t hidden = 0;
  std::int64_t max_tokens = 0;  ///< M
  int num_experts = 0;

  /// Where a selection's row is: its owner, the row among the owner's L * R * M, and the same row where only used rows
  /// are counted.
  struct Place {
    std::int32_t owner = -1;  ///< -1: the selection is none
    std::int32_t packed_row = 0;
    std::int64_t row = 0;
  };
  RecyclingVector<Place> places;  ///< [num_tokens, num_topk]; known once received
  /// On a device: the same (packed_row of a selection that has no row is its expert or -1), and the epoch of the
  /// dispatch there; filled in in the order of its stream.
  Tensor places_on_device;
  Tensor epoch_on_device;
  std::shared_ptr<void> memory;  ///< where a captured dispatch takes memory from, for what belongs to it
  bool is_received = false;      ///< set when all of this state is known, or will be in the order of the stream

  Tensor count;         ///< int32 [L]
  Tensor src_info;      ///< int32 [L, R * M]
  Tensor layout_range;  ///< int64 [L, R]

  Event completion;  ///< of an asynchronous dispatch
};

}  // namespace crossdock
