// The decoding pair: small batches, one row per token and expert, results packed per local expert.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <utility>

#include <crossdock/event.hpp>
#include <crossdock/export.hpp>
#include <crossdock/tensor.hpp>

namespace crossdock {

/// What a low-latency dispatch makes of a row while it is read. docs/codecs.md defines the casts bit by bit.
enum class RowFormat : std::uint8_t {
  kBfloat16,          ///< as it is
  kFloat8,            ///< E4M3, a float32 scale for each 128 channels
  kFloat8PowerOfTwo,  ///< E4M3, float32 scales that are powers of two
  kFloat8Ue8m0,       ///< E4M3, the same scales as exponent bytes, four to an int32
};

/// Handle of a low-latency dispatch. Immutable; copies share the state and may outlive the buffer. Usable for any
/// number of combines on the same buffer.
class CROSSDOCK_EXPORT LowLatencyHandle {
 public:
  class CROSSDOCK_HIDDEN State;

  /// No dispatch; passing it to an operation is an error.
  LowLatencyHandle() = default;
  explicit LowLatencyHandle(std::shared_ptr<const State> state) noexcept : state_(std::move(state)) {}

  [[nodiscard]] bool defined() const noexcept { return state_ != nullptr; }
  [[nodiscard]] std::int64_t num_tokens() const;                        ///< that this rank dispatched
  [[nodiscard]] std::int64_t num_max_dispatch_tokens_per_rank() const;  ///< M
  [[nodiscard]] std::int64_t hidden() const;                            ///< H
  [[nodiscard]] int num_experts() const;                                ///< E
  /// int32 [L, R * M]: token of each row at its source; undefined from the expert's count on. Defined once the dispatch
  /// has been received.
  [[nodiscard]] Tensor packed_recv_src_info() const;
  /// int64 [L, R]: rows of each source, count in the low half, first row in the high half.
  [[nodiscard]] Tensor packed_recv_layout_range() const;

  [[nodiscard]] const std::shared_ptr<const State>& state() const noexcept { return state_; }

 private:
  std::shared_ptr<const State> state_;
};

/// The second half of an operation that was called with Completion::kHook: the call sends, the hook receives, nothing
/// runs in between. Copies refer to the same half. Hooks are called once, by the thread that calls the buffer, in the
/// order of their operations on all ranks. A hook that is dropped without a call is an error (kState) of the buffer's
/// next operation, which all ranks get; the rows of the dropped one are then lost.
class CROSSDOCK_EXPORT ReceiveHook {
 public:
  class CROSSDOCK_HIDDEN State;

  /// No operation to receive: the call did everything. Calling it is an error.
  ReceiveHook() = default;
  explicit ReceiveHook(std::shared_ptr<State> state) noexcept : state_(std::move(state)) {}

  /// Waits for the other ranks' rows; then the results may be used. Throws as the operation would, and kState if it was
  /// called before or there is nothing to receive.
  void operator()() const;
  [[nodiscard]] bool defined() const noexcept { return state_ != nullptr; }

 private:
  std::shared_ptr<State> state_;
};

/// Input on a rank with N <= M tokens, H hidden, K top-k. N may differ between ranks and be 0; the rest must be equal.
struct LowLatencyDispatchInput {
  Tensor x{};                                         ///< bfloat16 [N, H], rows contiguous
  Tensor topk_idx{};                                  ///< int64 or int32 [N, K], contiguous, ids in [0, E) or -1
  std::int64_t num_max_dispatch_tokens_per_rank = 0;  ///< M; may differ from call to call
  int num_experts = 0;                                ///< E
  RowFormat format = RowFormat::kFloat8;
  /// int32 [L], contiguous: the tokens that each local expert receives are added.
  std::optional<Tensor> cumulative_local_expert_recv_stats{};
};

/// L local experts, G = ceil(H / 128). Rows of an expert are ordered by (source rank, source token, column of topk_idx)
/// and packed from row 0; rows from the expert's count on are undefined. A token that names an expert twice gives it
/// two rows. The tensors are slabs of the arena.
struct LowLatencyDispatchOutput {
  Tensor packed_recv_x{};  ///< bfloat16 or float8_e4m3 [L, R * M, H]
  /// FP8 only: float32 [L, R * M, G] with strides (G * R * M, 1, R * M), or for kFloat8Ue8m0 int32 [L, R * M, ceil(G /
  /// 4)] likewise.
  std::optional<Tensor> packed_recv_x_scales{};
  Tensor packed_recv_count{};  ///< int32 [L]
  LowLatencyHandle handle{};
  Event event{};       ///< complete unless the call was asynchronous
  ReceiveHook hook{};  ///< defined if the call was made with Completion::kHook
};

struct LowLatencyCombineInput {
  Tensor x{};  ///< bfloat16 [L, R * M, H], contiguous, rows as dispatched. Read in place if it lies in the arena, and
               ///< the operation then waits until all ranks have read it; else its used rows are staged with one copy
  Tensor topk_weights{};  ///< float32 [N, K], contiguous
  LowLatencyHandle handle{};
  /// As in the dispatch, int64 or int32 [N, K]: other ids are an error, and else it is not needed.
  std::optional<Tensor> topk_idx{};
  std::optional<Tensor> out{};  ///< bfloat16 [N, H], contiguous; allocated if absent
  /// x is what Buffer::next_combine_buffer gave for this handle, and belongs to the operation from now on: it is read
  /// in place by ranks that are not waited for, and must not be written again.
  bool zero_copy = false;
  /// Rows travel as LogFMT-10 (docs/codecs.md), this rank's own too; equal on all ranks. Not with zero_copy.
  bool use_logfmt = false;
};

/// combined_x[t] starts from +0 in float32; for each column k of topk_idx whose id is not -1, in order, it becomes
/// fma(row, topk_weights[t, k], it); then it is rounded once to nearest even. A NaN result is the canonical one.
struct LowLatencyCombineOutput {
  Tensor combined_x{};  ///< bfloat16 [N, H]
  Event event{};
  ReceiveHook hook{};
};

}  // namespace crossdock
