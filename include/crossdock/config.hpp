// Tuning of an operation, and the sizes that a buffer needs.
#pragma once

#include <cstddef>
#include <cstdint>

#include <crossdock/export.hpp>

namespace crossdock {

/// The seed's five tuning numbers, same names and order. Device backends use num_sms; the chunk sizes are DeepEP's ring
/// parameters, kept (and validated) for callers that pass them on, and unused by a design without rings.
struct Config {
  int num_sms = 24;
  int num_max_nvl_chunked_send_tokens = 6;
  int num_max_nvl_chunked_recv_tokens = 256;
  int num_max_rdma_chunked_send_tokens = 6;
  int num_max_rdma_chunked_recv_tokens = 256;

  friend bool operator==(const Config&, const Config&) = default;

  /// Throws kInvalidArgument unless num_sms is even and >= 0, all others are > 0, send < recv for NVLink and
  /// rdma send <= rdma recv / 2 (after rounding recv up to a multiple of send). Source: DeepEP V1 Config.
  CROSSDOCK_EXPORT void validate() const;
};

/// Recommended dispatch configuration. The seed's table for 2, 4, 8, 16, 24, 32, 64, 128, 144 and 160 ranks; a computed
/// value for every other count >= 1 (that of the next larger listed count; beyond 160 that of 160).
/// Throws kInvalidArgument for num_ranks < 1 or an odd or negative num_sms.
[[nodiscard]] CROSSDOCK_EXPORT Config get_dispatch_config(int num_ranks, int num_sms = 24);
/// The same for combine.
[[nodiscard]] CROSSDOCK_EXPORT Config get_combine_config(int num_ranks, int num_sms = 24);

/// What one rank receives in one throughput dispatch, to size its arena.
struct ArenaSizeArgs {
  /// Rows received by this rank: at most ranks * tokens per rank; of an expanded dispatch padding included, at most
  /// ranks * tokens per rank * top-k + local experts * (expert_alignment - 1).
  std::int64_t num_recv_tokens = 0;
  std::int64_t row_bytes = 0;          ///< hidden * bytes per element of x
  std::int64_t num_scales = 0;         ///< scales per row
  std::int64_t scale_bytes = 4;        ///< bytes per scale
  std::int64_t num_topk = 0;           ///< 0 if dispatched without top-k
  std::int64_t combine_row_bytes = 0;  ///< bytes of a row that combine_input() or staging holds; 0 if not in the arena
  int operations_in_flight = 1;        ///< how many dispatches' results are alive at once
  /// On a device, of a dispatch with num_worst_tokens: this rank's tokens * ranks. Its routes lie in the arena, too. Of
  /// an expanded one: tokens * (ranks + top-k) + (multiprocessors + 1) * experts.
  std::int64_t num_routes = 0;
  /// Of an expanded dispatch: experts of this rank. Its rows have one weight and no ids. 0: not expanded.
  std::int64_t num_local_experts = 0;
};
/// Bytes of arena that hold the tensors of that dispatch, alignment included.
/// Throws kInvalidArgument for negative fields and kCapacity if the result does not fit 64 bits.
[[nodiscard]] CROSSDOCK_EXPORT std::size_t get_arena_size_hint(const ArenaSizeArgs& args);

/// Bytes that DeepEP V1 asks for in its NVLink buffer; for callers that size buffers by its formula.
/// `hidden_bytes` = hidden * bytes per element. Source: DeepEP V1 Config::get_nvl_buffer_size_hint.
[[nodiscard]] CROSSDOCK_EXPORT std::size_t get_nvl_buffer_size_hint(const Config& config, std::int64_t hidden_bytes,
                                                                    int num_ranks);
/// The same for its RDMA buffer. Source: DeepEP V1 Config::get_rdma_buffer_size_hint.
[[nodiscard]] CROSSDOCK_EXPORT std::size_t get_rdma_buffer_size_hint(const Config& config, std::int64_t hidden_bytes,
                                                                     int num_ranks);
/// Bytes of arena for low-latency mode with that many tokens, in any row format, on the rank with the most experts: one
/// dispatch and its combine at a time, synchronous or with hooks, the tensors of the round before given back. `hidden`
/// counts elements. Where num_ranks divides num_experts, as DeepEP requires, it is no more than DeepEP's hint of that
/// name says (for rows of a page and more). For both modes in one buffer, add get_arena_size_hint.
/// Throws kInvalidArgument for a negative argument or num_ranks < 1, kCapacity if it does not fit 64 bits.
[[nodiscard]] CROSSDOCK_EXPORT std::size_t get_low_latency_rdma_size_hint(int num_max_dispatch_tokens_per_rank,
                                                                          std::int64_t hidden, int num_ranks,
                                                                          int num_experts);

}  // namespace crossdock
