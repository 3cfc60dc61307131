// Random worlds on all ranks of a group.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include <crossdock/buffer.hpp>

#include "support/world_tensor.hpp"

namespace crossdock::testing {

/// Worlds of `num_ranks` ranks, one after the other on the same buffers.
struct WorldGroup {
  int num_ranks = 1;
  std::vector<std::uint64_t> seeds;
  BufferOptions options;  ///< the device is that of the rank's place
  /// Where a rank's tensors live; each rank has its own.
  std::function<std::unique_ptr<TensorPlace>(int rank)> make_place = [](int /*rank*/) {
    return std::make_unique<TensorPlace>();
  };
};

/// Ranks as threads; returns what went wrong in the first world in which something did.
[[nodiscard]] std::vector<std::string> run_worlds_as_threads(const WorldGroup& group);
/// Ranks as processes, which print what went wrong; returns which of them failed.
[[nodiscard]] std::vector<std::string> run_worlds_as_processes(const WorldGroup& group);

}  // namespace crossdock::testing
