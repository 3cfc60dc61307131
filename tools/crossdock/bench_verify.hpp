// Comparison of a benchmark's results with the oracle.
#pragma once

#include <optional>
#include <string>

#include <crossdock/buffer.hpp>

#include "crossdock/bench_config.hpp"
#include "crossdock/routing.hpp"
#include "crossdock/row_pattern.hpp"

namespace crossdock::tool {

/// How experts marked their rows (mark_row).
enum class ExpertMark : unsigned char {
  kNone,
  kRank,    ///< by the number of the rank
  kExpert,  ///< by the number of the expert among all (low-latency mode)
};

/// Everything that the inputs of all ranks follow from.
struct BenchWorld {
  const BenchConfig& config;
  const Routing& routing;
  const RowPattern& pattern;
};

/// What a dispatch gave to one rank.
struct ReceivedTensors {
  Tensor recv_x;                        ///< [M, H]
  std::optional<Tensor> recv_x_scales;  ///< [M, S]
  std::optional<Tensor> recv_topk_idx;  ///< int64 [M, K]; absent if expanded
  Tensor recv_topk_weights;             ///< float32 [M, K]; expanded: [M]
  Tensor recv_src_idx;                  ///< int32 [M]

  static ReceivedTensors of(const DispatchOutput& output) {
    return {output.recv_x, output.recv_x_scales, output.recv_topk_idx, *output.recv_topk_weights,
            output.handle.recv_src_idx()};
  }
};

/// Compares what `rank` received, bit for bit, with rows made anew from the pattern: rows, scales, ids, weights, order.
/// Returns the first difference in words, or nothing.
[[nodiscard]] std::string find_dispatch_mismatch(const BenchWorld& world, int rank, const ReceivedTensors& received);

/// The same for combined rows [num_tokens, hidden]: sums in float32 over ascending ranks, or the ascending ranks of a
/// token's selections, rounded once.
[[nodiscard]] std::string find_combine_mismatch(const BenchWorld& world, int rank, ExpertMark mark,
                                                const Tensor& combined_x);

}  // namespace crossdock::tool
