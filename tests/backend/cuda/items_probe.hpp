// How pieces of work are dealt out to the warps of a grid, run on a CUDA device.
#pragma once

#include <cstdint>
#include <vector>

namespace crossdock::testing {

struct ItemCase {
  int num_tokens;
  int pieces;
  int blocks;
  int threads;
};

struct ItemVisits {
  std::vector<int> of_piece;  ///< [num_tokens, pieces] how often it was done
  std::vector<int> by_block;  ///< [blocks] pieces
};

/// REQUIRES: there is a device.
[[nodiscard]] ItemVisits count_visits(const ItemCase& shape);

struct Shape {
  int blocks;
  int threads;
};

/// GridShape.
[[nodiscard]] Shape grid_shape_of(std::int64_t pieces, int most_blocks, int most_threads);

}  // namespace crossdock::testing
