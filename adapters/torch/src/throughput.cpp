// Dispatch and combine in throughput mode.
#include <utility>

#include <crossdock/torch/deep_ep_buffer.h>

#include "arguments.hpp"
#include "results.hpp"

namespace crossdock::torch {

namespace {

std::shared_ptr<EventOverlap> make_overlap(Event event, bool async_finish) {
  return async_finish ? std::make_shared<EventOverlap>(std::move(event)) : std::make_shared<EventOverlap>();
}

bool is_asynchronous(const OperationOptions& options) { return options.completion == Completion::kAsynchronous; }

void check_allocation(Arguments& arguments, const OperationOptions& options) {
  if (options.allocation == Allocation::kCallerStream) return;
  arguments.expect(is_asynchronous(options) && options.previous_event.has_value(),
                   "allocate_on_comm_stream needs async_finish and a previous_event with an event");
}

/// Rows of x, and their scales if they are quantized.
struct Rows {
  Tensor x;
  std::optional<Tensor> scales;
};

Rows take_rows(Arguments& arguments, const at::Tensor& x, const std::optional<at::Tensor>& x_scales) {
  constexpr std::int64_t kChannelsPerScale = 128;
  const Allowed allowed{x_scales ? at::kFloat8_e4m3fn : at::kBFloat16, {"tokens", "hidden"}, Layout::kContiguousRows};
  Rows rows{arguments.take(x, "x", allowed), std::nullopt};
  if (!x_scales) return rows;
  if (!rows.x.defined()) {
    rows.scales.emplace();
    return rows;
  }
  const std::int64_t hidden = x.size(1);
  arguments.expect(hidden % kChannelsPerScale == 0,
                   "x has " + std::to_string(hidden) + " channels, with x_scales a multiple of 128 is allowed");
  rows.scales =
      arguments.take(*x_scales, "x_scales", {at::kFloat, {x.size(0), hidden / kChannelsPerScale}, Layout::kAnyStrides});
  return rows;
}

/// The library's handle; an empty one, which it refuses, if this is none of a dispatch inside a node.
DispatchHandle take_handle(Arguments& arguments, const DeepEPDispatchHandle& handle) {
  const bool is_usable = handle.intra_handle.has_value() && handle.intra_handle->core.defined();
  arguments.expect(
      is_usable || !handle.inter_handle.has_value(),
      "handle is that of a dispatch between nodes (inter_handle), but all ranks are in one node: that of a "
      "dispatch inside it (intra_handle) is allowed");
  arguments.expect(is_usable, "handle is empty, what dispatch returned is allowed");
  return is_usable ? handle.intra_handle->core : DispatchHandle();
}

}  // namespace

DeepEPDispatchLayoutOutput DeepEPBuffer::getDispatchLayout(const at::Tensor& topk_idx, int num_experts,
                                                           const std::shared_ptr<EventOverlap>& previous_event,
                                                           bool async, bool allocate_on_comm_stream) {
  const OperationOptions operation = options(previous_event, async, allocate_on_comm_stream);
  Arguments arguments("getDispatchLayout", world_rank_, device_);
  const Tensor ids = arguments.take(topk_idx, "topk_idx", {at::kLong, {"tokens", "top-k"}});
  check_allocation(arguments, operation);
  arguments.throw_if_bad();
  const DispatchLayout layout = buffer().get_dispatch_layout(ids, num_experts, operation);
  return {to_torch(layout.num_tokens_per_rank), to_torch(layout.num_tokens_per_node),
          to_torch(layout.num_tokens_per_expert), to_torch(layout.is_token_in_rank),
          make_overlap(buffer().capture(operation.stream), async)};
}

DeepEPDispatchOutput DeepEPBuffer::dispatch(
    const at::Tensor& x, const std::optional<at::Tensor>& x_scales, const std::optional<DeepEPDispatchHandle>& handle,
    const std::optional<at::Tensor>& num_tokens_per_rank, const std::optional<at::Tensor>& num_tokens_per_rdma_rank,
    const std::optional<at::Tensor>& is_token_in_rank, const std::optional<at::Tensor>& num_tokens_per_expert,
    const std::optional<at::Tensor>& topk_idx, const std::optional<at::Tensor>& topk_weights, int expert_alignment,
    std::optional<Config> config, const std::shared_ptr<EventOverlap>& previous_event, bool async_finish,
    bool allocate_on_comm_stream) {
  Buffer& core = buffer();
  const OperationOptions operation = options(previous_event, async_finish, allocate_on_comm_stream);
  if (handle) return cachedDispatch(x, x_scales, *handle, config, operation);

  Arguments arguments("dispatch", world_rank_, device_);
  check_allocation(arguments, operation);
  auto [rows, scales] = take_rows(arguments, x, x_scales);
  const std::int64_t tokens = rows.defined() ? rows.size(0) : 0;
  DispatchInput input;
  arguments.expect(
      num_tokens_per_rank && num_tokens_per_expert && is_token_in_rank,
      "num_tokens_per_rank, num_tokens_per_expert and is_token_in_rank must be given, as getDispatchLayout "
      "returns them, or a handle");
  static_cast<void>(arguments.take(num_tokens_per_rdma_rank, "num_tokens_per_rdma_rank", {at::kInt, {"nodes"}}));
  const bool was_good = arguments.good();
  input.layout.emplace();
  if (num_tokens_per_rank && num_tokens_per_expert && is_token_in_rank && was_good) {
    input.layout->num_tokens_per_rank =
        arguments.take(*num_tokens_per_rank, "num_tokens_per_rank", {at::kInt, {world_size_}});
    input.layout->num_tokens_per_expert =
        arguments.take(*num_tokens_per_expert, "num_tokens_per_expert", {at::kInt, {"experts"}});
    input.layout->is_token_in_rank =
        arguments.take(*is_token_in_rank, "is_token_in_rank", {at::kBool, {tokens, world_size_}});
  }
  if (topk_idx) input.topk_idx = arguments.take(*topk_idx, "topk_idx", {at::kLong, {tokens, "top-k"}});
  const Extent num_topk = input.topk_idx && input.topk_idx->defined() ? Extent(topk_idx->size(1)) : Extent("top-k");
  input.topk_weights = arguments.take(topk_weights, "topk_weights", {at::kFloat, {tokens, num_topk}});
  input.x = rows;
  input.x_scales = scales;
  input.expert_alignment = expert_alignment;
  input.config = config;

  const DispatchOutput output = arguments.run(core, [&] { return core.dispatch(input, operation); });
  return {to_torch(output.recv_x),
          to_torch(output.recv_x_scales),
          to_torch(output.recv_topk_idx),
          to_torch(output.recv_topk_weights),
          std::vector<int>(output.num_recv_tokens_per_expert),
          to_torch(output.handle, config ? config->num_sms : num_sms_),
          make_overlap(output.event, async_finish)};
}

DeepEPDispatchOutput DeepEPBuffer::cachedDispatch(const at::Tensor& x, const std::optional<at::Tensor>& x_scales,
                                                  const DeepEPDispatchHandle& handle,
                                                  const std::optional<Config>& config,
                                                  const OperationOptions& operation) {
  Arguments arguments("dispatch", world_rank_, device_);
  check_allocation(arguments, operation);
  CachedDispatchInput input;
  input.handle = take_handle(arguments, handle);
  const Rows rows = take_rows(arguments, x, x_scales);
  input.x = rows.x;
  input.x_scales = rows.scales;
  input.config = config;
  const DispatchOutput output = arguments.run(buffer(), [&] { return buffer().dispatch(input, operation); });
  return {to_torch(output.recv_x),
          to_torch(output.recv_x_scales),
          std::nullopt,
          std::nullopt,
          std::nullopt,
          std::nullopt,
          make_overlap(output.event, is_asynchronous(operation))};
}

DeepEPCombineOutput DeepEPBuffer::combine(const at::Tensor& x, const DeepEPDispatchHandle& handle,
                                          const std::optional<at::Tensor>& topk_weights, std::optional<Config> config,
                                          const std::shared_ptr<EventOverlap>& previous_event, bool async_finish,
                                          bool allocate_on_comm_stream) {
  Buffer& core = buffer();
  const OperationOptions operation = options(previous_event, async_finish, allocate_on_comm_stream);
  Arguments arguments("combine", world_rank_, device_);
  check_allocation(arguments, operation);
  CombineInput input;
  input.handle = take_handle(arguments, handle);
  const Extent rows = input.handle.defined() ? Extent(input.handle.num_recv_rows()) : Extent("received rows");
  input.x = arguments.take(x, "x", {at::kBFloat16, {rows, "hidden"}, Layout::kContiguousRows});
  input.topk_weights = arguments.take(topk_weights, "topk_weights", {at::kFloat, {rows, "top-k"}});
  input.config = config;
  const CombineOutput output = arguments.run(core, [&] { return core.combine(input, operation); });
  return {to_torch(output.combined_x), to_torch(output.combined_topk_weights),
          make_overlap(output.event, async_finish)};
}

at::Tensor DeepEPBuffer::combineInput(const DeepEPDispatchHandle& handle, std::int64_t hidden) {
  Arguments arguments("combineInput", world_rank_, device_);
  const DispatchHandle core = take_handle(arguments, handle);
  arguments.throw_if_bad();
  return to_torch(buffer().combine_input(core, hidden));
}

}  // namespace crossdock::torch
