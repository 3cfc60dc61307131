#include "backend/cuda/cuda_device.hpp"

#include <array>

#include "backend/cuda/cuda_error.hpp"
#include "backend/cuda/device_guard.hpp"
#include "backend/cuda/requests.hpp"
#include "backend/cuda/stream_event.hpp"
#include "base/error.hpp"

namespace crossdock::cuda {

CudaDevice::CudaDevice(std::shared_ptr<CommunicationStream> stream, int num_ranks, const BufferOptions& options)
    : stream_(std::move(stream)), num_ranks_(num_ranks), timeout_(options.timeout) {
  const DeviceGuard guard(stream_->device().index);
  const auto ranks = static_cast<std::size_t>(num_ranks);
  const auto experts = static_cast<std::size_t>(options.max_experts);
  rank_totals_ = make_device_array<std::int32_t>(ranks);
  expert_totals_ = make_device_array<std::int32_t>(experts);
  bad_id_ = make_device_array<std::uint64_t>(1);
  counted_per_rank_ = make_pinned<std::int32_t>(ranks);
  counted_per_expert_ = make_pinned<std::int32_t>(experts);
  counted_bad_id_ = make_pinned<std::uint64_t>(1);
  given_per_rank_ = make_pinned<std::int32_t>(ranks);
  given_per_expert_ = make_pinned<std::int32_t>(experts);
}

bool CudaDevice::is_captured(const Stream& stream) const {
  const DeviceGuard guard(stream_->device().index);
  cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
  check(cudaStreamIsCapturing(static_cast<cudaStream_t>(stream.native), &status), "cudaStreamIsCapturing");
  return status != cudaStreamCaptureStatusNone;
}

Event CudaDevice::capture(const Stream& stream) { return capture_stream(stream_->device().index, stream.native); }

device::LayoutArgs CudaDevice::make_args(std::int64_t num_tokens, int num_experts) {
  if (!masks_.defined() || masks_.size(0) < num_tokens) {
    masks_ = allocate(DataType::kInt64, std::array{std::max<std::int64_t>(num_tokens, 1)});
    block_counts_ = allocate(DataType::kInt32,
                             std::array{static_cast<std::int64_t>(device::layout_blocks(num_tokens)) * num_ranks_});
  }
  device::LayoutArgs args = layout_args_of(num_tokens, num_experts, num_ranks_);
  args.scratch = {masks_.data_as<std::uint64_t>(), block_counts_.data_as<std::int32_t>(), rank_totals_.get(),
                  expert_totals_.get(), bad_id_.get()};
  args.counts = {counted_per_rank_.get(), counted_per_expert_.get(), counted_bad_id_.get()};
  return args;
}

void CudaDevice::count(device::LayoutArgs& args) const {
  stream_->run(
      [&](const device::Completion& completion) {
        args.completion = completion;
        check(device::launch_layout(args, stream_->get()), "the layout of a dispatch");
      },
      Deadline(timeout_));
  if (counted_bad_id_[0] != 0) throw_bad_id(args);
}

void CudaDevice::throw_bad_id(const device::LayoutArgs& args) const {
  const auto place = static_cast<std::int64_t>(~counted_bad_id_[0]);
  std::int64_t id = 0;
  std::int32_t narrow_id = 0;
  const bool is_wide = args.id_bytes == sizeof(id);
  check(cudaMemcpyAsync(is_wide ? static_cast<void*>(&id) : &narrow_id, args.topk_idx + place * args.id_bytes,
                        static_cast<std::size_t>(args.id_bytes), cudaMemcpyDeviceToHost, stream_->get()),
        "an id that is not allowed");
  check(cudaStreamSynchronize(stream_->get()), "an id that is not allowed");
  throw make_error(ErrorCode::kInvalidArgument, "topk_idx[{}][{}] is {}; allowed are -1 and 0 to {}",
                   place / args.num_topk, place % args.num_topk, is_wide ? id : narrow_id, args.num_experts - 1);
}

DispatchLayout CudaDevice::compute_layout(const Tensor& topk_idx, int num_experts) {
  const DeviceGuard guard(stream_->device().index);
  DispatchLayout layout;
  layout.num_tokens_per_rank = allocate(DataType::kInt32, std::array{std::int64_t{num_ranks_}});
  layout.num_tokens_per_expert = allocate(DataType::kInt32, std::array{std::int64_t{num_experts}});
  layout.is_token_in_rank = allocate(DataType::kBool, std::array{topk_idx.size(0), std::int64_t{num_ranks_}});
  device::LayoutArgs args = make_args(topk_idx.size(0), num_experts);
  set_ids(args, topk_idx);
  args.is_token_in_rank = layout.is_token_in_rank.data_as<std::uint8_t>();
  args.num_tokens_per_rank = layout.num_tokens_per_rank.data_as<std::int32_t>();
  args.num_tokens_per_expert = layout.num_tokens_per_expert.data_as<std::int32_t>();
  count(args);
  return layout;
}

void CudaDevice::plan(const DispatchInput& input, DispatchHandle::State& state) {
  const DeviceGuard guard(stream_->device().index);
  state.copy_to_host = [stream = stream_](const Tensor& tensor) {
    const DeviceGuard own_device(stream->device().index);
    return cuda::copy_to_host(tensor, stream->get());
  };
  if (state.is_expanded()) return plan_expanded(input, state);
  const std::array shape{state.num_tokens, std::int64_t{num_ranks_}};
  // One allocation for both tables: each costs a call to the driver.
  const std::int64_t entries = state.num_tokens * num_ranks_;
  const Tensor tables =
      allocate(DataType::kUint8, std::array{entries * static_cast<std::int64_t>(sizeof(std::int32_t) + 1)});
  state.send_rows = Tensor::own(tables.owner(), tables.data(), DataType::kInt32, shape, tables.device());
  device::LayoutArgs args = make_args(state.num_tokens, state.num_experts);
  args.rows = state.send_rows.data_as<std::int32_t>();
  if (input.topk_idx) set_ids(args, *input.topk_idx);
  if (input.layout) {
    plan_by_layout(*input.layout, args, state);
    return;
  }
  state.is_token_in_rank = Tensor::own(tables.owner(), state.send_rows.data_as<std::int32_t>() + entries,
                                       DataType::kBool, shape, tables.device());
  args.is_token_in_rank = state.is_token_in_rank.data_as<std::uint8_t>();
  count(args);
  take_counts(state);
}

void CudaDevice::plan_expanded(const DispatchInput& input, DispatchHandle::State& state) {
  state.is_token_in_rank = allocate(DataType::kBool, std::array{state.num_tokens, std::int64_t{num_ranks_}});
  device::LayoutArgs args = make_args(state.num_tokens, state.num_experts);
  set_ids(args, *input.topk_idx);
  args.is_token_in_rank = state.is_token_in_rank.data_as<std::uint8_t>();
  if (input.layout) fetch(input.layout->num_tokens_per_expert, given_per_expert_.get());
  count(args);  // after the copy, on the same stream
  for (std::size_t e = 0; input.layout && e < static_cast<std::size_t>(state.num_experts); ++e) {
    require(given_per_expert_[e] == counted_per_expert_[e],
            "num_tokens_per_expert says {} for expert {}, but topk_idx selects it {} times", given_per_expert_[e], e,
            counted_per_expert_[e]);
  }
  take_counts(state);
}

void CudaDevice::take_counts(DispatchHandle::State& state) const {
  state.num_tokens_per_rank.assign(counted_per_rank_.get(), counted_per_rank_.get() + num_ranks_);
  state.num_tokens_per_expert.assign(counted_per_expert_.get(), counted_per_expert_.get() + state.num_experts);
}

void CudaDevice::fetch(const Tensor& from, std::int32_t* to) const {
  check(cudaMemcpyAsync(to, from.data(), from.num_bytes(), cudaMemcpyDeviceToHost, stream_->get()),
        "the counts of a layout");
}

void CudaDevice::plan_by_layout(const DispatchLayout& layout, device::LayoutArgs& args,
                                DispatchHandle::State& state) const {
  fetch(layout.num_tokens_per_rank, given_per_rank_.get());
  fetch(layout.num_tokens_per_expert, given_per_expert_.get());
  state.is_token_in_rank = layout.is_token_in_rank;
  args.membership = layout.is_token_in_rank.data_as<std::uint8_t>();
  count(args);  // after the copies, on the same stream
  for (int rank = 0; rank < num_ranks_; ++rank) {
    require(given_per_rank_[static_cast<std::size_t>(rank)] == counted_per_rank_[static_cast<std::size_t>(rank)],
            "num_tokens_per_rank says {} tokens for rank {}, but is_token_in_rank has {}",
            given_per_rank_[static_cast<std::size_t>(rank)], rank, counted_per_rank_[static_cast<std::size_t>(rank)]);
  }
  state.num_tokens_per_rank.assign(given_per_rank_.get(), given_per_rank_.get() + num_ranks_);
  state.num_tokens_per_expert.assign(given_per_expert_.get(), given_per_expert_.get() + state.num_experts);
}

}  // namespace crossdock::cuda
