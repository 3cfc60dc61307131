// The specification of low-latency mode: serial dispatch and combine over a whole world in memory, in the plainest
// code. Every backend must equal it bit for bit in what it defines.
//
// R ranks; M, the most tokens of a rank, equal on all of them; H hidden; K top-k; L experts of a rank, which differs
// between ranks if R does not divide the number of experts; G = ceil(H / 128) groups of channels.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "base/bfloat16.hpp"

namespace crossdock::reference::low_latency {

/// What a dispatch makes of a row. codec/float8.hpp defines the casts.
enum class RowFormat : std::uint8_t {
  kBfloat16,          ///< as it is
  kFloat8,            ///< E4M3, float32 scales
  kFloat8PowerOfTwo,  ///< E4M3, float32 scales that are powers of two
  kFloat8Ue8m0,       ///< E4M3, the same scales as exponent bytes, four to an int32
};

/// What one rank brings to a dispatch.
struct DispatchRank {
  std::int64_t num_tokens = 0;           ///< at most M
  std::vector<Bfloat16> x;               ///< [num_tokens, H]
  std::vector<std::int64_t> topk_idx;    ///< [num_tokens, K], -1 for none
  std::vector<std::int32_t> statistics;  ///< [L] tokens received by each local expert so far; empty if not counted
};

struct DispatchWorld {
  int num_experts = 1;
  int num_topk = 0;
  std::int64_t hidden = 0;
  std::int64_t max_tokens = 0;  ///< M
  RowFormat format = RowFormat::kBfloat16;
  std::vector<std::uint8_t> is_masked;  ///< [R]; empty if no rank is masked
  std::vector<DispatchRank> ranks;
};

/// What one rank gets. Each local expert has R * M places for rows, filled from 0 on in the order of (source rank,
/// source token, column of topk_idx). Places from count on are undefined; here they are zero.
struct DispatchedRank {
  std::vector<Bfloat16> x;             ///< [L, R * M, H]; empty if the rows are FP8
  std::vector<std::uint8_t> x_float8;  ///< [L, R * M, H]; empty if they are not
  std::vector<float> scales;           ///< [L, R * M, G] with strides (G * R * M, 1, R * M): kFloat8, kFloat8PowerOfTwo
  std::vector<std::int32_t> packed_scales;  ///< [L, R * M, P] likewise, P = ceil(G / 4): kFloat8Ue8m0
  std::vector<std::int32_t> count;          ///< [L] rows of each expert
  std::vector<std::int32_t> src_info;       ///< [L, R * M] token of each row at its source
  std::vector<std::int64_t> layout_range;   ///< [L, R] rows of each source: count in the low half, begin in the high
  std::vector<std::int32_t> statistics;     ///< [L] as given plus count; empty if not given
};

/// A token that names an expert twice gives it two rows. A masked rank sends nothing and receives nothing: as a source
/// it has empty ranges, and its own counts and ranges are zero; its tokens are not looked at. Throws kInvalidArgument,
/// naming the rank, for an id outside [-1, num_experts), for more than M tokens, and for more than M rows for one
/// expert, which a rank can only have with an expert twice in one token; they might not find room.
[[nodiscard]] std::vector<DispatchedRank> dispatch(const DispatchWorld& world);

/// How experts' rows travel back.
enum class WireFormat : std::uint8_t {
  kBfloat16,  ///< as they are
  kLogFmt,    ///< what decode_logfmt makes of encode_logfmt; codec/logfmt.hpp defines them
};

/// What one rank brings to a combine.
struct CombineRank {
  std::int64_t num_tokens = 0;         ///< as dispatched
  std::vector<Bfloat16> x;             ///< [L, R * M, H], rows in dispatch order; places from count on are not read
  std::vector<std::int64_t> topk_idx;  ///< [num_tokens, K] as dispatched
  std::vector<float> topk_weights;     ///< [num_tokens, K]; not read where the id is -1
};

struct CombineWorld {
  int num_experts = 1;
  int num_topk = 0;
  std::int64_t hidden = 0;
  std::int64_t max_tokens = 0;  ///< M as dispatched
  WireFormat format = WireFormat::kBfloat16;
  std::vector<std::uint8_t> is_masked;  ///< [R] now, which may be more ranks than at the dispatch; empty if none
  std::vector<CombineRank> ranks;
};

/// The combined tokens of each rank, [num_tokens, H]. Element h of token t starts from +0 in float32; for each k in
/// ascending order whose row exists, sum = fma(row[h], topk_weights[t, k], sum); then it is rounded once. A row exists
/// if the id is not -1, the dispatch delivered it, and its owner is not masked. Without rows the result is +0, as it is
/// everywhere on a masked rank. A NaN result is kBfloat16Nan.
[[nodiscard]] std::vector<std::vector<Bfloat16>> combine(const CombineWorld& world,
                                                         const std::vector<DispatchedRank>& dispatched);

}  // namespace crossdock::reference::low_latency
