// Which ranks can load and store each other's memory.
#pragma once

namespace crossdock {

/// Ranks in blocks of `ranks_per_node`: node n holds ranks [n * ranks_per_node, (n + 1) * ranks_per_node).
/// Always stated, never guessed from host names.
struct Topology {
  int num_ranks = 1;
  int ranks_per_node = 1;

  [[nodiscard]] constexpr int num_nodes() const noexcept { return (num_ranks + ranks_per_node - 1) / ranks_per_node; }
  [[nodiscard]] constexpr int node_of(int rank) const noexcept { return rank / ranks_per_node; }
  [[nodiscard]] constexpr bool is_single_node() const noexcept { return num_nodes() == 1; }
};

}  // namespace crossdock
