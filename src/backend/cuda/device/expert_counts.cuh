// What the ranks have said of how many selections each expert has.
#pragma once

#include "backend/cuda/device/party.cuh"

namespace crossdock::cuda::device {

/// Calls body(rank, selections of `expert` by that rank) for each rank. They are read some at a time, as what body
/// stores could be one of them for all that the compiler knows.
template <typename Body>
__device__ inline void thread_for_each_count(const Party& party, const BlockState& block, int expert,
                                             const Body& body) {
  constexpr int kLoads = 8;
  const Slot slot(party, block.epoch);
  for (int first = 0; first < party.num_ranks; first += kLoads) {
    int said[kLoads];  // old if the rank is masked
#pragma unroll
    for (int i = 0; i < kLoads; ++i) {
      said[i] = slot.counts(min(first + i, party.num_ranks - 1), party.rank)[expert];
    }
#pragma unroll
    for (int i = 0; i < kLoads; ++i) {
      const int rank = first + i;
      if (rank < party.num_ranks) body(rank, thread_is_masked(block, rank) ? 0 : said[i]);
    }
  }
}

}  // namespace crossdock::cuda::device
