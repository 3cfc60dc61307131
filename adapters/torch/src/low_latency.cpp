// The pair for decoding.
#include <crossdock/torch/deep_ep_buffer.h>

#include "arguments.hpp"
#include "results.hpp"

namespace crossdock::torch {

namespace {

std::shared_ptr<EventOverlap> make_overlap(const Event& event, bool async_finish) {
  return async_finish ? std::make_shared<EventOverlap>(event) : nullptr;
}

/// Both at once would leave it open who receives.
void check_completion(Arguments& arguments, bool async_finish, bool return_recv_hook) {
  arguments.expect(!async_finish || !return_recv_hook, "async_finish and return_recv_hook exclude each other");
}

/// On a device nothing waits on the host, as in DeepEP: what goes wrong is thrown by a later call.
OperationOptions in_stream_order(OperationOptions options, const at::Device& device) {
  if (device.is_cuda() && options.completion == Completion::kSynchronous) options.completion = Completion::kStream;
  return options;
}

}  // namespace

DeepEPDispatchOutputLowLatency DeepEPBuffer::lowLatencyDispatch(const at::Tensor& x, const at::Tensor& topk_idx,
                                                                int num_max_dispatch_tokens_per_rank, int num_experts,
                                                                bool use_fp8, bool async_finish,
                                                                bool return_recv_hook) {
  Buffer& core = buffer();
  Arguments arguments("lowLatencyDispatch", world_rank_, device_);
  LowLatencyDispatchInput input;
  input.x = arguments.take(x, "x", {at::kBFloat16, {"tokens", "hidden"}, Layout::kContiguousRows});
  check_completion(arguments, async_finish, return_recv_hook);
  const Extent tokens = input.x.defined() ? Extent(x.size(0)) : Extent("tokens");
  input.topk_idx = arguments.take(topk_idx, "topk_idx", {at::kLong, {tokens, "top-k"}});
  input.num_max_dispatch_tokens_per_rank = num_max_dispatch_tokens_per_rank;
  input.num_experts = num_experts;
  input.format = use_fp8 ? RowFormat::kFloat8 : RowFormat::kBfloat16;
  const OperationOptions operation = in_stream_order(options(nullptr, async_finish, false, return_recv_hook), device_);
  const LowLatencyDispatchOutput output =
      arguments.run(core, [&] { return core.low_latency_dispatch(input, operation); });
  return {to_torch(output.packed_recv_x), to_torch(output.packed_recv_x_scales),    to_torch(output.packed_recv_count),
          to_torch(output.handle),        make_overlap(output.event, async_finish), to_torch(output.hook)};
}

DeepEPCombineOutputLowLatency DeepEPBuffer::lowLatencyCombine(const at::Tensor& x, const at::Tensor& topk_idx,
                                                              const at::Tensor& topk_weights,
                                                              const DeepEPDispatchHandleLowLatency& handle,
                                                              bool async_finish, bool return_recv_hook) {
  Buffer& core = buffer();
  Arguments arguments("lowLatencyCombine", world_rank_, device_);
  arguments.expect(handle.core.defined(), "handle is empty, what lowLatencyDispatch returned is allowed");
  LowLatencyCombineInput input;
  input.handle = handle.core;
  input.x = arguments.take(x, "x", {at::kBFloat16, {"local experts", "rows", "hidden"}});
  check_completion(arguments, async_finish, return_recv_hook);
  const Extent tokens = handle.core.defined() ? Extent(handle.core.num_tokens()) : Extent("tokens");
  input.topk_idx = arguments.take(topk_idx, "topk_idx", {at::kLong, {tokens, "top-k"}});
  input.topk_weights = arguments.take(topk_weights, "topk_weights", {at::kFloat, {tokens, "top-k"}});
  const OperationOptions operation = in_stream_order(options(nullptr, async_finish, false, return_recv_hook), device_);
  const LowLatencyCombineOutput output =
      arguments.run(core, [&] { return core.low_latency_combine(input, operation); });
  return {to_torch(output.combined_x), make_overlap(output.event, async_finish), to_torch(output.hook)};
}

}  // namespace crossdock::torch
