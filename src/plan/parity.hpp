// The matrices of the seed's handle (DeepEP V1), for callers that look at them.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "plan/route.hpp"

namespace crossdock::plan {

/// Tokens per channel: ceil(num_tokens / num_channels); channel c owns [c * q, min((c + 1) * q, num_tokens)).
[[nodiscard]] std::int64_t tokens_per_channel(std::int64_t num_tokens, int num_channels) noexcept;

/// int32 [R, R]: [i][j] = rows that ranks <= i send to j; every column is filled.
[[nodiscard]] std::vector<std::int32_t> rank_prefix_matrix(const CountMatrix& counts);

/// int32 [R, C]: [dst][c] = tokens of channels <= c that the rank of `route` sends to dst (inclusive).
[[nodiscard]] std::vector<std::int32_t> channel_prefix_matrix(const RouteTable& route, int num_ranks, int num_channels);

/// int32 [R, C]: [src][c] = start of channel c within the block received from src (exclusive).
/// `recv_src_idx` [M] is ordered by source rank, `num_tokens_of` [R] says how many tokens each source has.
[[nodiscard]] std::vector<std::int32_t> recv_channel_prefix_matrix(std::span<const std::int32_t> recv_src_idx,
                                                                   const CountMatrix& counts, int rank,
                                                                   std::span<const std::int64_t> num_tokens_of,
                                                                   int num_channels);

/// int32 [N, R]: place of the token in its (channel, dst) queue from 0, or -1 if it is not sent to dst.
[[nodiscard]] std::vector<std::int32_t> send_head(const RouteTable& route, int num_ranks, int num_channels);

}  // namespace crossdock::plan
