// rtp-llm's DeepEPBuffer on crossdock: dispatch and combine for engines whose tensors are torch's.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include <ATen/core/Tensor.h>

#include <crossdock/torch/deep_ep_defs.h>
#include <crossdock/buffer.hpp>

namespace crossdock::torch {

/// Every rank's bytes, in rank order. All contributions of one call have equal length.
using AllGather = std::function<std::vector<Bytes>(std::span<const std::byte> mine)>;

/// One rank's end of a group that dispatches and combines.
///
/// Collective: init, dispatch, combine and the low-latency pair are called by all ranks in the same order.
/// Threads: one thread at a time. Tensors that an asynchronous operation was given stay alive until it has ended.
/// Streams: an operation starts after what is queued on torch's current stream; once it has ended, its results may be
/// used on any. A received tensor must live as long as work on streams other than that one uses it.
/// Errors are crossdock::Error: kInvalidArgument names the argument, what it was and what is allowed, and the other
/// ranks' calls throw too; kState before init(). After a bad argument the buffer goes on (docs/errors.md).
/// docs/migrating-from-rtp-llm.md lists what differs from the original.
class DeepEPBuffer {
 public:
  /// Does nothing but remember: init() makes the buffer.
  /// The arena, where received tensors live, gets num_nvl_bytes + num_rdma_bytes, but at least 16 MiB. Both modes may
  /// be used whatever low_latency_mode says; num_qps_per_rank must be positive, and has no further effect inside a
  /// node. `device` is where all tensors are: the CPU, or a CUDA device, which is the current one if it has no index.
  DeepEPBuffer(AllGather all_gather, std::size_t world_rank, std::size_t world_size, std::int64_t num_nvl_bytes = 0,
               std::int64_t num_rdma_bytes = 0, bool low_latency_mode = false, int num_qps_per_rank = 1,
               at::Device device = at::kCPU);
  /// world_rank and world_size must be those of the bootstrap.
  DeepEPBuffer(std::shared_ptr<Bootstrap> bootstrap, std::size_t world_rank, std::size_t world_size,
               std::int64_t num_nvl_bytes = 0, std::int64_t num_rdma_bytes = 0, bool low_latency_mode = false,
               int num_qps_per_rank = 1, at::Device device = at::kCPU);

  /// Makes the buffer; collective. Whether it can be used: false never happens without an exception before it. Does
  /// nothing if it was made already, and makes a new one after destroy() or after an error that broke it.
  bool init();
  /// Leaves the group. Local, bounded, allowed more than once; the destructor does the same. Results stay valid.
  void destroy() noexcept;
  [[nodiscard]] bool isAvailable() const noexcept;

  /// num_sms of recommended configurations: an even number of at least 2. Others throw kInvalidArgument.
  void setNumSMs(std::size_t new_num_sms);
  /// The point that the current stream has reached.
  [[nodiscard]] std::shared_ptr<EventOverlap> capture();

  /// Bytes for two low-latency pairs in flight, for num_rdma_bytes.
  [[nodiscard]] static std::size_t getLowLatencyRdmaSizeHint(int num_max_dispatch_tokens_per_rank, int hidden,
                                                             int num_ranks, int num_experts);
  /// Recommended configuration for that many ranks, 0 for world_size. Any number is allowed.
  [[nodiscard]] Config getDispatchConfig(int num_ranks = 0) const;
  [[nodiscard]] Config getCombineConfig(int num_ranks = 0) const;

  /// topk_idx: int64 [tokens, top-k], -1 selects nothing. Local.
  [[nodiscard]] DeepEPDispatchLayoutOutput getDispatchLayout(
      const at::Tensor& topk_idx, int num_experts, const std::shared_ptr<EventOverlap>& previous_event = nullptr,
      bool async = false, bool allocate_on_comm_stream = false);

  /// x: bfloat16 [tokens, hidden]; with x_scales, float32 [tokens, hidden / 128], it is float8_e4m3fn. With `handle`
  /// the routing of that dispatch is repeated, and nothing else about routing is needed (what is given is ignored).
  /// Without, the layout must be given; topk_idx int64 and topk_weights float32 [tokens, top-k] both or neither.
  [[nodiscard]] DeepEPDispatchOutput dispatch(const at::Tensor& x, const std::optional<at::Tensor>& x_scales,
                                              const std::optional<DeepEPDispatchHandle>& handle = std::nullopt,
                                              const std::optional<at::Tensor>& num_tokens_per_rank = std::nullopt,
                                              const std::optional<at::Tensor>& num_tokens_per_rdma_rank = std::nullopt,
                                              const std::optional<at::Tensor>& is_token_in_rank = std::nullopt,
                                              const std::optional<at::Tensor>& num_tokens_per_expert = std::nullopt,
                                              const std::optional<at::Tensor>& topk_idx = std::nullopt,
                                              const std::optional<at::Tensor>& topk_weights = std::nullopt,
                                              int expert_alignment = 1, std::optional<Config> config = std::nullopt,
                                              const std::shared_ptr<EventOverlap>& previous_event = nullptr,
                                              bool async_finish = false, bool allocate_on_comm_stream = false);

  /// x: bfloat16 [received rows, hidden]; topk_weights: float32 [received rows, top-k]. Both are summed, unweighted.
  [[nodiscard]] DeepEPCombineOutput combine(const at::Tensor& x, const DeepEPDispatchHandle& handle,
                                            const std::optional<at::Tensor>& topk_weights = std::nullopt,
                                            std::optional<Config> config = std::nullopt,
                                            const std::shared_ptr<EventOverlap>& previous_event = nullptr,
                                            bool async_finish = false, bool allocate_on_comm_stream = false);

  /// x: bfloat16 [tokens, hidden], at most num_max_dispatch_tokens_per_rank tokens; topk_idx: int64 [tokens, top-k].
  [[nodiscard]] DeepEPDispatchOutputLowLatency lowLatencyDispatch(const at::Tensor& x, const at::Tensor& topk_idx,
                                                                  int num_max_dispatch_tokens_per_rank, int num_experts,
                                                                  bool use_fp8 = true, bool async_finish = false,
                                                                  bool return_recv_hook = false);

  /// x: bfloat16 [local experts, num_max_dispatch_tokens_per_rank * ranks, hidden]; topk_idx as in the dispatch;
  /// topk_weights: float32 [tokens, top-k].
  [[nodiscard]] DeepEPCombineOutputLowLatency lowLatencyCombine(const at::Tensor& x, const at::Tensor& topk_idx,
                                                                const at::Tensor& topk_weights,
                                                                const DeepEPDispatchHandleLowLatency& handle,
                                                                bool async_finish, bool return_recv_hook);

  /// Not in the original: bfloat16 [received rows, hidden] in the arena, contents undefined. What experts write into it
  /// combine reads where it is, without a copy.
  [[nodiscard]] at::Tensor combineInput(const DeepEPDispatchHandle& handle, std::int64_t hidden);
  /// Not in the original: everything else that crossdock can do. Throws kState before init().
  [[nodiscard]] Buffer& buffer();

 private:
  [[nodiscard]] OperationOptions options(const std::shared_ptr<EventOverlap>& previous_event, bool async_finish,
                                         bool allocate_on_comm_stream, bool return_recv_hook = false) const;
  [[nodiscard]] DeepEPDispatchOutput cachedDispatch(const at::Tensor& x, const std::optional<at::Tensor>& x_scales,
                                                    const DeepEPDispatchHandle& handle,
                                                    const std::optional<Config>& config,
                                                    const OperationOptions& operation);

  std::shared_ptr<Bootstrap> bootstrap_;
  std::optional<Buffer> buffer_;
  BufferOptions buffer_options_;
  at::Device device_;
  int world_rank_ = 0;
  int world_size_ = 1;
  int num_sms_ = 24;
};

}  // namespace crossdock::torch
