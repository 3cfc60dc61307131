// What DeepEPBuffer takes and returns: rtp-llm's structs on torch tensors, with its names.
//
// at::Tensor is torch::Tensor. It is spelled so here because this header needs ATen only, which compiles much faster.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include <ATen/core/Tensor.h>

#include <crossdock/config.hpp>
#include <crossdock/event.hpp>
#include <crossdock/handle.hpp>
#include <crossdock/low_latency.hpp>

namespace crossdock::torch {

using crossdock::Config;
/// A point in the work of the communication stream. Default-constructed: reached already.
using EventHandle = crossdock::Event;

/// An event that may be absent, and tensors that live as long as it. Operations keep their own tensors alive, so
/// callers need extra tensors only for other purposes.
class EventOverlap {
 public:
  EventOverlap() = default;
  explicit EventOverlap(std::optional<EventHandle> event, std::vector<std::optional<at::Tensor>> extra_tensors = {})
      : event_(std::move(event)), extra_tensors_(std::move(extra_tensors)) {}

  /// Blocks the calling thread until the operation has ended; whatever is queued after that comes after it. Throws the
  /// crossdock::Error with which it ended, if any, and kState if there is no event because the operation was not
  /// asynchronous.
  void currentStreamWait() const;
  [[nodiscard]] std::optional<EventHandle>& event() noexcept { return event_; }
  [[nodiscard]] const std::optional<EventHandle>& event() const noexcept { return event_; }

 private:
  std::optional<EventHandle> event_;
  std::vector<std::optional<at::Tensor>> extra_tensors_;
};

/// A tensor of a handle. Engines pass handles on and do not look at them, so it is computed when somebody does; a
/// handle's tensors then come together. Thread safety: any thread may look. Looking waits for the dispatch to end, and
/// throws what it ended with.
class LazyTensor {
 public:
  using Make = std::function<std::vector<at::Tensor>()>;
  class Group;

  LazyTensor() = default;
  LazyTensor(std::shared_ptr<Group> group, std::size_t index) noexcept : group_(std::move(group)), index_(index) {}
  /// All tensors that `make` returns belong to one group.
  [[nodiscard]] static std::shared_ptr<Group> make_group(Make make);

  /// Undefined if the handle is none that a dispatch returned.
  [[nodiscard]] at::Tensor get() const;
  operator at::Tensor() const { return get(); }  // NOLINT: it stands for the tensor
  [[nodiscard]] std::int64_t size(std::int64_t dimension) const { return get().size(dimension); }

 private:
  std::shared_ptr<Group> group_;
  std::size_t index_ = 0;
};

/// R ranks, T tokens of this rank, E experts.
struct DeepEPDispatchLayoutOutput {
  at::Tensor num_tokens_per_rank;                      ///< int32 [R]
  std::optional<at::Tensor> num_tokens_per_rdma_rank;  ///< int32 [nodes]; absent with one node
  at::Tensor num_tokens_per_expert;                    ///< int32 [E]
  at::Tensor is_token_in_rank;                         ///< bool [T, R]
  std::shared_ptr<EventOverlap> event_overlap;         ///< never null; without an event unless asynchronous
};

/// Handle of a dispatch inside a node; C = num_sms / 2 channels, M rows received. The last member is what combine and
/// cached dispatch use: a handle that was put together from other tensors is refused.
struct DeepEPDispatchHandleIntra {
  LazyTensor rank_prefix_matrix;          ///< int32 [R, R]
  LazyTensor channel_prefix_matrix;       ///< int32 [R, C]
  LazyTensor recv_channel_prefix_matrix;  ///< int32 [R, C]
  LazyTensor recv_src_idx;                ///< int32 [M]
  LazyTensor is_token_in_rank;            ///< bool [T, R]
  LazyTensor send_head;                   ///< int32 [T, R]
  DispatchHandle core{};
};

/// Handle of a dispatch between nodes. No dispatch returns it yet, and operations inside a node refuse it.
struct DeepEPDispatchHandleInter {
  at::Tensor is_token_in_rank;
  at::Tensor rdma_channel_prefix_matrix;
  at::Tensor gbl_channel_prefix_matrix;
  std::optional<at::Tensor> recv_rdma_channel_prefix_matrix;
  at::Tensor recv_rdma_rank_prefix_sum;
  std::optional<at::Tensor> recv_gbl_channel_prefix_matrix;
  at::Tensor recv_gbl_rank_prefix_sum;
  std::optional<at::Tensor> recv_src_meta;
  std::optional<at::Tensor> send_rdma_head;
  std::optional<at::Tensor> send_nvl_head;
};

/// One of the two is there.
struct DeepEPDispatchHandle {
  std::optional<DeepEPDispatchHandleIntra> intra_handle;
  std::optional<DeepEPDispatchHandleInter> inter_handle;
};

/// M rows received, ordered by (source rank, source token). The tensors lie in the buffer's arena; their places are
/// given back when the tensors die. Order and meaning: docs/semantics.md.
struct DeepEPDispatchOutput {
  at::Tensor recv_x;                            ///< [M, hidden], dtype of x
  std::optional<at::Tensor> recv_x_scales;      ///< float32 [M, hidden / 128]
  std::optional<at::Tensor> recv_topk_idx;      ///< int64 [M, top-k]: number of the expert within this rank, or -1
  std::optional<at::Tensor> recv_topk_weights;  ///< float32 [M, top-k]
  std::optional<std::vector<int>> num_recv_tokens_per_expert_list;  ///< of local experts; absent if cached
  std::optional<DeepEPDispatchHandle> handle;                       ///< absent if cached
  std::shared_ptr<EventOverlap> event_overlap;  ///< never null; without an event unless asynchronous
};

struct DeepEPCombineOutput {
  at::Tensor recv_x;                            ///< bfloat16 [T, hidden]
  std::optional<at::Tensor> recv_topk_weights;  ///< float32 [T, top-k]
  std::shared_ptr<EventOverlap> event_overlap;  ///< never null; without an event unless asynchronous
};

/// L local experts, R ranks, at most M tokens per rank.
struct DeepEPDispatchHandleLowLatency {
  LazyTensor packed_recv_src_info;      ///< int32 [L, M * R]; defined once the dispatch was received
  LazyTensor packed_recv_layout_range;  ///< int64 [L, R]: first row in the high half, count in the low half
  int num_max_dispatch_tokens_per_rank = 0;
  int num_experts = 0;
  LowLatencyHandle core{};  ///< what combine uses
};

struct DeepEPDispatchOutputLowLatency {
  at::Tensor packed_recv_x;  ///< float8_e4m3fn or bfloat16 [L, M * R, hidden]
  /// float32 [L, M * R, hidden / 128], column-major in the last two dimensions; only with use_fp8.
  std::optional<at::Tensor> packed_recv_x_scales;
  at::Tensor packed_recv_count;  ///< int32 [L]
  DeepEPDispatchHandleLowLatency handle;
  std::shared_ptr<EventOverlap> event_overlap;  ///< null unless asynchronous
  std::optional<std::function<void()>> hook;    ///< only with return_recv_hook; called once
};

struct DeepEPCombineOutputLowLatency {
  at::Tensor combined_x;                        ///< bfloat16 [T, hidden]
  std::shared_ptr<EventOverlap> event_overlap;  ///< null unless asynchronous
  std::optional<std::function<void()>> hook;    ///< only with return_recv_hook; called once
};

}  // namespace crossdock::torch
