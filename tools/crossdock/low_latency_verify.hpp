// Comparison of a low-latency benchmark's results with the oracle.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include <crossdock/low_latency.hpp>

#include "crossdock/bench_verify.hpp"

namespace crossdock::tool {

/// What a low-latency dispatch gave to one rank: L local experts, R ranks, M = T, G scales of a row.
struct PackedTensors {
  Tensor x;                      ///< [L, R * M, H]
  std::optional<Tensor> scales;  ///< float32 [L, R * M, G], any strides
  Tensor count;                  ///< int32 [L]
  Tensor src_info;               ///< int32 [L, R * M]
  Tensor layout_range;           ///< int64 [L, R]

  static PackedTensors of(const LowLatencyDispatchOutput& output) {
    return {output.packed_recv_x, output.packed_recv_x_scales, output.packed_recv_count,
            output.handle.packed_recv_src_info(), output.handle.packed_recv_layout_range()};
  }
};

/// Compares what `rank` received, bit for bit, with rows made anew from the pattern: rows, scales, source tokens,
/// order, ranges, counts. Returns the first difference in words, or nothing.
[[nodiscard]] std::string find_packed_mismatch(const BenchWorld& world, int rank, const PackedTensors& received);

/// The same for combined rows [num_tokens, hidden]: fused multiply-adds in float32 in the order of the token's ids,
/// rounded once. `mark` is kNone or kExpert.
[[nodiscard]] std::string find_weighted_mismatch(const BenchWorld& world, int rank, ExpertMark mark,
                                                 const Tensor& combined_x);

/// The rows of a dispatch as an expert answers that does nothing but mark them: written to the first count places of
/// each local expert of `out`, bfloat16 [L, R * M, H]. `first_expert` is the number of the first local one.
void answer_packed_rows(const BenchConfig& config, const PackedTensors& received, ExpertMark mark, int first_expert,
                        const Tensor& out);

/// Bytes of the first `count` [L] rows of each expert of x [L, R * M, H] as LogFMT-10 (codec/logfmt.hpp).
[[nodiscard]] std::int64_t logfmt_wire_bytes(const Tensor& count, const Tensor& x);

}  // namespace crossdock::tool
