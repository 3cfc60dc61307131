#include "core/buffer_impl.hpp"

#include <array>
#include <atomic>
#include <chrono>
#include <utility>

#include "base/error.hpp"
#include "core/registry.hpp"
#include "plan/experts.hpp"

namespace crossdock {

namespace {

std::uint64_t next_buffer_id() {
  static std::atomic<std::uint64_t> last = 0;
  return last.fetch_add(1, std::memory_order_relaxed) + 1;
}

double microseconds_since(std::chrono::steady_clock::time_point begin) {
  return std::chrono::duration<double, std::micro>(std::chrono::steady_clock::now() - begin).count();
}

/// [M] as [M, 1].
Tensor as_column(const Tensor& tensor) {
  const std::array shape{tensor.size(0), std::int64_t{1}};
  return Tensor::own(tensor.owner(), tensor.data(), tensor.dtype(), shape, tensor.device());
}

}  // namespace

Error Buffer::Impl::named(const std::exception& error, std::string_view operation) const {
  const auto* ours = dynamic_cast<const Error*>(&error);
  Error result(ours != nullptr ? ours->code() : ErrorCode::kCapacity,
               fmt::format("rank {}: {}: {}", rank_, operation, error.what()),
               ours != nullptr ? ours->where() : std::source_location::current());
  if (ours == nullptr) return result.with_rank(rank_);
  result.with_system_error(ours->system_error());
  if (ours->wait()) result.with_wait(*ours->wait());
  return result.with_rank(ours->rank() >= 0 ? ours->rank() : rank_);
}

Buffer::Impl::Impl(Bootstrap& bootstrap, const BufferOptions& options)
    : options_(options),
      rank_(bootstrap.rank()),
      topology_{bootstrap.size(), options.ranks_per_node > 0 ? options.ranks_per_node : bootstrap.size()},
      limits_{bootstrap.size(), options.max_experts, options.device},
      buffer_id_(next_buffer_id()) {
  BufferParts parts = make_buffer_parts(bootstrap, options, topology_);
  local_device_ = std::move(parts.local_device);
  backend_ = std::move(parts.backend);
  // A thread begins with device 0, and going back to that after each operation would make CUDA use it, too.
  if (options.device.index > 0) worker_.run([this] { local_device_->bind_thread(); }).wait();
}

const backend::Backend& Buffer::Impl::backend() const {
  if (!backend_) throw make_error(ErrorCode::kState, "rank {}: the buffer was destroyed", rank_);
  return *backend_;
}

Buffer::ExpertRange Buffer::Impl::local_experts(int num_experts) const {
  require(num_experts >= 1, "rank {}: num_experts is {}, at least 1 is allowed", rank_, num_experts);
  const plan::ExpertMap experts(num_experts, topology_.num_ranks);
  return {experts.begin(rank_), experts.count(rank_)};
}

int Buffer::Impl::local_experts_unchecked(int num_experts) const {
  return num_experts >= 1 ? plan::ExpertMap(num_experts, topology_.num_ranks).count(rank_) : 0;
}

void Buffer::Impl::check_not_captured(const OperationOptions& options) const {
  if (!local_device_->is_captured(options.stream)) return;
  throw make_error(ErrorCode::kUnsupported,
                   "the stream is being captured into a graph, which is allowed for low-latency operations, for "
                   "dispatches with num_worst_tokens, and with handles of these");
}

bool Buffer::Impl::is_on_device(const DispatchHandle& handle) const noexcept {
  return handle.defined() && handle.state()->is_on_device();
}

bool Buffer::Impl::is_on_device(const DispatchInput& input) const noexcept {
  return input.num_worst_tokens && backend_ && backend_->keeps_counts_on_device();
}

void Buffer::Impl::await_start_on_device(const OperationOptions& options) {
  if (options.completion != Completion::kStream) return await_start(options);
  if (options.previous_event) options.previous_event->wait();
}

void Buffer::Impl::await_start(const OperationOptions& options) {
  check_not_captured(options);
  if (options.previous_event) options.previous_event->wait();
  capture(options.stream).wait();
}

std::uint64_t Buffer::Impl::next_epoch(std::string_view operation) {
  if (!backend_) throw make_error(ErrorCode::kState, "rank {}: {}: the buffer was destroyed", rank_, operation);
  if (backend_->is_broken()) {
    throw make_error(ErrorCode::kState, "rank {}: {}: an earlier error broke this buffer; make a new one", rank_,
                     operation);
  }
  try {
    backend_->throw_unawaited();
  } catch (const Error& error) {
    throw named(error, operation);
  }
  const std::uint64_t next = backend_->readmit(last_epoch_ + 1, operation, [this] { worker_.run([] {}).wait(); });
  if (next != last_epoch_ + 1) first_epoch_ = next;
  hooks_.check_oldest({next, first_epoch_, rank_, operation});
  last_epoch_ = next;
  return last_epoch_;
}

DispatchLayout Buffer::Impl::get_dispatch_layout(const Tensor& topk_idx, int num_experts,
                                                 const OperationOptions& caller_options) {
  static_cast<void>(backend());  // throws if it was destroyed
  try {
    const bool may_be_queued = backend_->keeps_counts_on_device();
    const OperationOptions options = may_be_queued ? completed(caller_options) : caller_options;
    check_options(options, limits_);
    check_topk_idx(topk_idx, num_experts, limits_);
    if (may_be_queued && options.completion == Completion::kStream) {
      await_start_on_device(options);
      return backend_->compute_layout(topk_idx, num_experts, options.stream);
    }
    await_start(options);
    return local_device_->compute_layout(topk_idx, num_experts);
  } catch (const Error& error) {
    throw named(error, "get_dispatch_layout");
  }
}

backend::DispatchRequest Buffer::Impl::make_request(std::uint64_t epoch, const DispatchInput& input,
                                                    const OperationOptions& options) {
  check_dispatch(input, local_experts_unchecked(num_experts_of(input)), limits_);
  auto state = std::make_shared<DispatchHandle::State>(topology_.num_ranks);
  state->buffer_id = buffer_id_;
  state->epoch = epoch;
  state->rank = rank_;
  state->dtype = input.x.dtype();
  state->hidden = input.x.size(1);
  state->num_topk = input.topk_idx ? static_cast<int>(input.topk_idx->size(1)) : -1;
  state->num_experts = num_experts_of(input);
  state->expert_alignment = input.expand ? input.expert_alignment : 0;
  state->num_tokens = input.x.size(0);
  state->has_worst_case = input.num_worst_tokens.has_value();

  backend::DispatchRequest request;
  request.epoch = epoch;
  request.completion = options.completion;
  request.stream = options.stream;
  request.wait_costs = options.wait_recv_cost_stats;
  request.layout = input.layout;
  request.x = input.x;
  request.x_scales = input.x_scales;
  request.topk_idx = input.topk_idx;
  request.topk_weights = input.topk_weights;
  request.expert_alignment = input.expert_alignment;
  request.num_worst_tokens = input.num_worst_tokens;
  request.statistics = input.cumulative_local_expert_recv_stats;
  if (input.config) request.num_sms = input.config->num_sms;
  request.handle = state;
  request.new_handle = state;
  if (is_on_device(input)) return request;
  const auto await_plan = local_device_->plan(input, *state);
  request.ahead = backend_->launch_ahead(request);
  await_plan();
  return request;
}

backend::DispatchRequest Buffer::Impl::make_request(std::uint64_t epoch, const CachedDispatchInput& input,
                                                    const OperationOptions& options) {
  check_handle(input.handle);
  input.handle.state()->completion.wait();
  check_cached_dispatch(input, limits_);
  backend::DispatchRequest request;
  request.epoch = epoch;
  request.completion = options.completion;
  request.stream = options.stream;
  request.wait_costs = options.wait_recv_cost_stats;
  request.x = input.x;
  request.x_scales = input.x_scales;
  if (input.config) request.num_sms = input.config->num_sms;
  request.handle = input.handle.state();
  return request;
}

DispatchOutput Buffer::Impl::finish_dispatch(const backend::DispatchRequest& request, const OperationOptions& options,
                                             double layout_us) {
  const Milliseconds timeout = timeout_of(options);
  std::shared_ptr<backend::DispatchOperation> operation = backend_->start_dispatch(request, Deadline(timeout));
  const backend::DispatchResult& result = operation->result();
  DispatchOutput output{result.recv_x,
                        result.recv_x_scales,
                        result.recv_topk_idx,
                        result.recv_topk_weights,
                        result.num_recv_tokens_per_expert,
                        result.group_ends,
                        DispatchHandle(request.handle),
                        Event()};
  const auto finish = [this, operation, timeout, layout_us] {
    operation->finish(Deadline(timeout));
    PhaseTimes times = operation->times();
    times.layout_us = layout_us;
    set_times(times);
  };
  if (options.completion != Completion::kAsynchronous) {
    finish();
  } else {
    output.event = worker_.run(finish);
    if (request.new_handle) request.new_handle->completion = output.event;
  }
  return output;
}

template <class Input>
DispatchOutput Buffer::Impl::run_dispatch(std::string_view name, const Input& input, bool is_on_device,
                                          const OperationOptions& caller_options) {
  const OperationOptions options = is_on_device ? completed(caller_options) : caller_options;
  const std::uint64_t epoch = next_epoch("dispatch");
  const auto begin = std::chrono::steady_clock::now();
  const auto mode = is_on_device ? OperationMode::kWorstCase : OperationMode::kThroughput;
  const auto request = or_refuse({epoch, mode, options.stream}, name, timeout_of(options), [&] {
    hooks_.check_dropped();
    check_options(options, limits_);
    is_on_device ? await_start_on_device(options) : await_start(options);
    return make_request(epoch, input, options);
  });
  return finish_dispatch(request, options, microseconds_since(begin));
}

DispatchOutput Buffer::Impl::dispatch(const DispatchInput& input, const OperationOptions& options) {
  return run_dispatch("dispatch", input, is_on_device(input), options);
}

DispatchOutput Buffer::Impl::dispatch(const CachedDispatchInput& input, const OperationOptions& options) {
  return run_dispatch("cached dispatch", input, is_on_device(input.handle), options);
}

backend::CombineRequest Buffer::Impl::make_request(std::uint64_t epoch, const CombineInput& input,
                                                   const OperationOptions& options) {
  check_handle(input.handle);
  check_combine(input, limits_);
  backend::CombineRequest request;
  request.epoch = epoch;
  request.completion = options.completion;
  request.stream = options.stream;
  request.wait_costs = options.wait_recv_cost_stats;
  request.x = input.x;
  request.topk_weights = input.topk_weights;
  const bool has_expanded_weights = input.topk_weights && input.handle.state()->is_expanded();
  if (has_expanded_weights) request.topk_weights = as_column(*input.topk_weights);
  request.bias_0 = input.bias_0;
  request.bias_1 = input.bias_1;
  if (input.config) request.num_sms = input.config->num_sms;
  const std::int64_t num_tokens = input.handle.num_tokens();
  const std::shared_ptr<void>& memory = input.handle.state()->memory;
  const Completion completion = is_on_device(input.handle) ? options.completion : Completion::kSynchronous;
  request.out = input.out
                    ? *input.out
                    : allocate_combined(memory, input.x.dtype(), std::array{num_tokens, input.x.size(1)}, completion);
  if (input.topk_weights) {
    const std::int64_t num_topk = has_expanded_weights ? input.handle.state()->num_topk : input.topk_weights->size(1);
    request.out_weights = allocate_combined(memory, DataType::kFloat32, std::array{num_tokens, num_topk}, completion);
  }
  request.handle = input.handle.state();
  return request;
}

CombineOutput Buffer::Impl::combine(const CombineInput& input, const OperationOptions& options) {
  if (is_on_device(input.handle)) return combine_on_device(input, completed(options));
  const std::uint64_t epoch = next_epoch("combine");
  const Milliseconds timeout = timeout_of(options);
  const auto request = or_refuse({epoch}, "combine", timeout, [&] {
    hooks_.check_dropped();
    check_options(options, limits_);
    check_not_captured(options);
    return make_request(epoch, input, options);
  });
  const auto run = [this, request, timeout, previous_event = options.previous_event, stream = capture(options.stream)] {
    or_refuse({request.epoch}, "combine", timeout, [&] {
      if (previous_event) previous_event->wait();
      stream.wait();
      request.handle->completion.wait();
    });
    set_times(backend_->combine(request, Deadline(timeout)));
  };
  CombineOutput output{request.out, request.out_weights, Event()};
  if (options.completion != Completion::kAsynchronous) {
    run();
  } else {
    output.event = worker_.run(run);
  }
  return output;
}

/// Such combines are ordered by their calls, so they begin in them.
CombineOutput Buffer::Impl::combine_on_device(const CombineInput& input, const OperationOptions& options) {
  const std::uint64_t epoch = next_epoch("combine");
  const Milliseconds timeout = timeout_of(options);
  const auto request = or_refuse({epoch, OperationMode::kWorstCase, options.stream}, "combine", timeout, [&] {
    hooks_.check_dropped();
    check_options(options, limits_);
    await_start_on_device(options);
    check_handle(input.handle);
    input.handle.state()->completion.wait();
    return make_request(epoch, input, options);
  });
  const std::shared_ptr<backend::ReceiveOperation> operation = backend_->send_combine(request, Deadline(timeout));
  const auto receive = [operation, timeout] { operation->receive(Deadline(timeout)); };
  CombineOutput output{request.out, request.out_weights, Event()};
  if (options.completion != Completion::kAsynchronous) {
    receive();
  } else {
    output.event = worker_.run(receive);
  }
  return output;
}

void Buffer::Impl::check_handle(const DispatchHandle& handle) const {
  require(handle.defined(), "the handle is empty: it must come from a dispatch");
  require(handle.state()->buffer_id == buffer_id_, "the handle belongs to another buffer");
}

Tensor Buffer::Impl::combine_input(const DispatchHandle& handle, std::int64_t hidden, DataType dtype) {
  static_cast<void>(backend());
  try {
    if (backend_->is_broken())
      throw make_error(ErrorCode::kState, "an earlier error broke this buffer; make a new one");
    check_handle(handle);
    require(hidden >= 1, "hidden is {}, at least 1 is allowed", hidden);
    require(dtype == DataType::kBfloat16 || dtype == DataType::kFloat32, "dtype {}, bfloat16 or float32 is allowed",
            name_of(dtype));
    const std::array shape{handle.num_recv_rows(), hidden};
    if (auto tensor = backend_->allocate_for(handle.state()->memory, dtype, shape, false)) return *std::move(tensor);
    return backend_->allocate(dtype, shape);
  } catch (const Error& error) {
    throw named(error, "combine_input");
  }
}

void Buffer::Impl::refuse(const Error& reason, OperationMode mode) {
  const std::uint64_t epoch = next_epoch("refuse");
  backend_->refuse({.epoch = epoch, .mode = mode}, reason, Deadline(options_.timeout));
}

void Buffer::Impl::mask_rank(int rank, bool masked) {
  static_cast<void>(backend());
  require(rank >= 0 && rank < topology_.num_ranks, "rank {}: mask_rank: rank is {}, 0 to {} are allowed", rank_, rank,
          topology_.num_ranks - 1);
  require(rank != rank_, "rank {}: mask_rank: a rank cannot mask itself", rank_);
  backend_->set_masked(rank, masked, last_epoch_ + 1);
}

void Buffer::Impl::clear_masks() {
  for (const int rank : masked_ranks()) backend_->set_masked(rank, false, last_epoch_ + 1);
}

Buffer::PhaseTimes Buffer::Impl::last_phase_times() const {
  const std::lock_guard lock(times_mutex_);
  return times_;
}

void Buffer::Impl::set_times(const PhaseTimes& times) {
  const std::lock_guard lock(times_mutex_);
  times_ = times;
}

void Buffer::Impl::destroy() noexcept {
  hooks_.abandon_all();
  worker_.stop();
  if (!backend_) return;
  backend_->close();
  backend_.reset();
}

}  // namespace crossdock
