// What combine needs to know of its dispatch.
#pragma once

#include <cstdint>
#include <memory>
#include <utility>

#include <crossdock/export.hpp>
#include <crossdock/tensor.hpp>

namespace crossdock {

/// The seed's (DeepEP V1's) handle matrices, for R ranks, C channels, N tokens sent and M rows received by this rank.
/// crossdock itself does not need them. Channel c of a rank with n tokens is its token range
/// [c * q, min((c + 1) * q, n)) with q = ceil(n / C).
struct ParityMatrices {
  Tensor rank_prefix_matrix;          ///< int32 [R, R]: [i][j] rows that ranks <= i send to j (every column is filled)
  Tensor channel_prefix_matrix;       ///< int32 [R, C]: [dst][c] tokens of channels <= c that this rank sends to dst
  Tensor recv_channel_prefix_matrix;  ///< int32 [R, C]: [src][c] start of channel c within the block received from src
  Tensor recv_src_idx;                ///< int32 [M]: index of each received row among its source rank's tokens
  Tensor is_token_in_rank;            ///< bool [N, R]
  Tensor send_head;                   ///< int32 [N, R]: place of the token in its (channel, dst) queue; -1 not sent
};

/// Handle of a throughput-mode dispatch. Owns its tensors. Immutable; copies share the state and may outlive the buffer
/// (but can then only be looked at). Usable for any number of combines and cached dispatches on the same buffer.
/// The low-latency pair has a type of its own, so that the wrong kind does not compile.
class CROSSDOCK_EXPORT DispatchHandle {
 public:
  class CROSSDOCK_HIDDEN State;

  /// No dispatch; passing it to an operation is an error.
  DispatchHandle() = default;
  explicit DispatchHandle(std::shared_ptr<const State> state) noexcept : state_(std::move(state)) {}

  [[nodiscard]] bool defined() const noexcept { return state_ != nullptr; }
  /// Tokens that this rank dispatched.
  [[nodiscard]] std::int64_t num_tokens() const;
  /// Rows that this rank received (without the padding of a worst-case token count or an expanded dispatch). Waits for
  /// the dispatch to end, and throws what it ended with, as everything below but num_recv_rows() and has_worst_case()
  /// does.
  [[nodiscard]] std::int64_t num_recv_tokens() const;
  /// Rows of the received tensors: num_recv_tokens(), or the worst-case token count if that was asked for; expanded,
  /// with padding.
  [[nodiscard]] std::int64_t num_recv_rows() const;
  /// Of a dispatch with num_worst_tokens: OperationMode::kWorstCase is that of what uses the handle.
  [[nodiscard]] bool has_worst_case() const;
  /// int32 [num_recv_rows()]: source token of each received row. Rows come in the order of (source rank, source token);
  /// for that of expanded rows see DispatchOutput. -1 for their padding.
  [[nodiscard]] Tensor recv_src_idx() const;
  /// int32 [R, R]: [i][j] rows that ranks <= i send to rank j.
  [[nodiscard]] Tensor rank_prefix_matrix() const;
  /// The seed's matrices for that many channels (half of Config::num_sms). Computed on each call.
  /// Throws kInvalidArgument for num_channels < 1, kState for an expanded dispatch, whose rows they do not describe.
  [[nodiscard]] ParityMatrices parity_matrices(int num_channels) const;

  [[nodiscard]] const std::shared_ptr<const State>& state() const noexcept { return state_; }

 private:
  std::shared_ptr<const State> state_;
};

}  // namespace crossdock
