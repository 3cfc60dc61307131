// The low-latency operations of a buffer.
#include <array>
#include <utility>

#include "backend/low_latency_state.hpp"
#include "base/error.hpp"
#include "core/buffer_impl.hpp"
#include "core/ids_digest.hpp"

namespace crossdock {

namespace {

const LowLatencyHandle::State& checked(const std::shared_ptr<const LowLatencyHandle::State>& state) {
  if (!state) throw make_error(ErrorCode::kState, "an empty low-latency handle");
  return *state;
}

/// Does the host wait for the end of it?
constexpr bool is_awaited(Completion completion) noexcept {
  return completion == Completion::kSynchronous || completion == Completion::kAsynchronous;
}

}  // namespace

std::int64_t LowLatencyHandle::num_tokens() const { return checked(state_).num_tokens; }
std::int64_t LowLatencyHandle::num_max_dispatch_tokens_per_rank() const { return checked(state_).max_tokens; }
std::int64_t LowLatencyHandle::hidden() const { return checked(state_).hidden; }
int LowLatencyHandle::num_experts() const { return checked(state_).num_experts; }
Tensor LowLatencyHandle::packed_recv_src_info() const { return checked(state_).src_info; }
Tensor LowLatencyHandle::packed_recv_layout_range() const { return checked(state_).layout_range; }

void Buffer::Impl::check_handle(const LowLatencyHandle& handle) const {
  require(handle.defined(), "the handle is empty: it must come from a low-latency dispatch");
  require(handle.state()->buffer_id == buffer_id_, "the handle belongs to another buffer");
}

backend::LowLatencyDispatchRequest Buffer::Impl::make_request(std::uint64_t epoch, const LowLatencyDispatchInput& input,
                                                              const OperationOptions& options) {
  check_low_latency_dispatch(input, local_experts_unchecked(input.num_experts), limits_);
  auto state = make_recycled<LowLatencyHandle::State>(recycler_, recycler_);
  state->buffer_id = buffer_id_;
  state->epoch = epoch;
  state->num_tokens = input.x.size(0);
  if (limits_.device.type == DeviceType::kHost) state->ids_digest = digest_of_ids(input.topk_idx);
  state->num_topk = static_cast<int>(input.topk_idx.size(1));
  state->hidden = input.x.size(1);
  state->max_tokens = input.num_max_dispatch_tokens_per_rank;
  state->num_experts = input.num_experts;

  backend::LowLatencyDispatchRequest request;
  request.epoch = epoch;
  request.completion = options.completion;
  request.stream = options.stream;
  request.x = input.x;
  request.topk_idx = input.topk_idx;
  request.format = input.format;
  request.statistics = input.cumulative_local_expert_recv_stats;
  request.wait_costs = options.wait_recv_cost_stats;
  request.handle = std::move(state);
  return request;
}

backend::LowLatencyCombineRequest Buffer::Impl::make_request(std::uint64_t epoch, const LowLatencyCombineInput& input,
                                                             const OperationOptions& options) {
  check_handle(input.handle);
  input.handle.state()->completion.wait();
  const LowLatencyHandle::State& handle = *input.handle.state();
  require(handle.is_received, "the dispatch of the handle has not been received: its hook must be called first");
  check_low_latency_combine(input, handle, local_experts_unchecked(handle.num_experts), limits_);
  if (input.zero_copy) combine_buffers_.take(input.x, handle.epoch);

  backend::LowLatencyCombineRequest request;
  request.epoch = epoch;
  request.completion = options.completion;
  request.stream = options.stream;
  request.x = input.x;
  request.topk_weights = input.topk_weights;
  if (limits_.device.type != DeviceType::kHost) request.topk_idx = input.topk_idx;  // else they are checked
  request.out = input.out ? *input.out
                          : allocate_combined(handle.memory, DataType::kBfloat16,
                                              std::array{handle.num_tokens, handle.hidden}, options.completion);
  request.wait_costs = options.wait_recv_cost_stats;
  request.use_logfmt = input.use_logfmt;
  request.zero_copy = input.zero_copy;
  request.handle = input.handle.state();
  return request;
}

Tensor Buffer::Impl::allocate_combined(const std::shared_ptr<void>& memory, DataType dtype,
                                       std::array<std::int64_t, 2> shape, Completion completion) {
  if (auto tensor = backend_->allocate_for(memory, dtype, shape, false)) return *std::move(tensor);
  // Slabs are given back in the order of the device's operations, other memory in that of the buffer's own stream.
  const bool is_local = limits_.device.type == DeviceType::kHost || is_awaited(completion);
  return is_local ? local_device_->allocate(dtype, shape) : backend_->allocate(dtype, shape);
}

OperationOptions Buffer::Impl::completed(const OperationOptions& options) const {
  OperationOptions result = options;
  if (is_awaited(options.completion) && local_device_ && local_device_->is_captured(options.stream)) {
    result.completion = Completion::kStream;
  }
  return result;
}

template <class Input>
auto Buffer::Impl::checked_request(std::uint64_t epoch, std::string_view name, const Input& input,
                                   const OperationOptions& options) {
  const backend::Refusal refusal{.epoch = epoch, .mode = OperationMode::kLowLatency, .stream = options.stream};
  return or_refuse(refusal, name, timeout_of(options), [&] {
    hooks_.check_dropped();
    check_low_latency_options(options, limits_);
    if (limits_.device.type == DeviceType::kHost || is_awaited(options.completion)) {
      await_start(options);
    } else if (options.previous_event) {
      options.previous_event->wait();  // the rest is waited for in the order of the stream
    }
    return make_request(epoch, input, options);
  });
}

void Buffer::Impl::receive(const std::shared_ptr<backend::ReceiveOperation>& operation, std::string_view name,
                           std::uint64_t epoch, const OperationOptions& options, Event& event, ReceiveHook& hook) {
  const Milliseconds timeout = timeout_of(options);
  const auto body = [operation, timeout] { operation->receive(Deadline(timeout)); };
  switch (options.completion) {
    case Completion::kSynchronous:
    case Completion::kStream: body(); return;
    case Completion::kAsynchronous: event = worker_.run(body); return;
    case Completion::kHook:
      hook = hooks_.add(make_recycled<ReceiveHook::State>(recycler_, name, epoch, operation, timeout));
      return;
  }
}

LowLatencyDispatchOutput Buffer::Impl::low_latency_dispatch(const LowLatencyDispatchInput& input,
                                                            const OperationOptions& caller_options) {
  const OperationOptions options = completed(caller_options);
  constexpr std::string_view kName = "low_latency_dispatch";
  const std::uint64_t epoch = next_epoch(kName);
  auto request = checked_request(epoch, kName, input, options);
  const std::shared_ptr<LowLatencyHandle::State> state = request.handle;
  const std::shared_ptr<backend::LowLatencyDispatchOperation> operation =
      backend_->send_low_latency_dispatch(std::move(request), Deadline(timeout_of(options)));
  LowLatencyDispatchOutput output{
      operation->result().x, operation->result().scales, state->count, LowLatencyHandle(state), Event(), ReceiveHook()};
  receive(operation, kName, epoch, options, output.event, output.hook);
  state->completion = output.event;
  return output;
}

LowLatencyCombineOutput Buffer::Impl::low_latency_combine(const LowLatencyCombineInput& input,
                                                          const OperationOptions& caller_options) {
  const OperationOptions options = completed(caller_options);
  constexpr std::string_view kName = "low_latency_combine";
  const std::uint64_t epoch = next_epoch(kName);
  auto request = checked_request(epoch, kName, input, options);
  LowLatencyCombineOutput output{request.out, Event(), ReceiveHook()};
  receive(backend_->send_low_latency_combine(std::move(request), Deadline(timeout_of(options))), kName, epoch, options,
          output.event, output.hook);
  return output;
}

Tensor Buffer::Impl::next_combine_buffer(const LowLatencyHandle& handle) {
  static_cast<void>(backend());
  try {
    if (backend_->is_broken())
      throw make_error(ErrorCode::kState, "an earlier error broke this buffer; make a new one");
    check_handle(handle);
    const std::int64_t local = local_experts_unchecked(handle.num_experts());
    const std::array shape{local, topology_.num_ranks * handle.state()->max_tokens, handle.hidden()};
    const auto special = backend_->allocate_for(handle.state()->memory, DataType::kBfloat16, shape, true);
    Tensor tensor = special ? *special : backend_->allocate(DataType::kBfloat16, shape);
    combine_buffers_.add(tensor, handle.state()->epoch);
    return tensor;
  } catch (const Error& error) {
    throw named(error, "next_combine_buffer");
  }
}

}  // namespace crossdock
