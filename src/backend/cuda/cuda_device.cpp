#include "backend/cuda/cuda_device.hpp"

#include <algorithm>
#include <array>
#include <atomic>
#include <span>
#include <utility>

#include "backend/cuda/cuda_error.hpp"
#include "backend/cuda/device/stamped.hpp"
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
  counted_ = make_pinned<std::uint64_t>(device::CountMessage::num_words(num_ranks, options.max_experts));
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
    block_counts_ = allocate(DataType::kInt64,
                             std::array{static_cast<std::int64_t>(device::layout_blocks(num_tokens)) * num_ranks_});
    check(cudaMemsetAsync(block_counts_.data(), 0, block_counts_.num_bytes(), stream_->get()), "cudaMemsetAsync");
  }
  device::LayoutArgs args = layout_args_of(num_tokens, num_experts, num_ranks_);
  args.scratch.masks = masks_.data_as<std::uint64_t>();
  args.scratch.stamped_counts = block_counts_.data_as<std::uint64_t>();
  args.scratch.rank_totals = rank_totals_.get();
  args.scratch.expert_totals = expert_totals_.get();
  args.scratch.bad_id = bad_id_.get();
  args.message.words = counted_.get();
  return args;
}

CudaDevice::Counting CudaDevice::begin_count(device::LayoutArgs args, Until until) const {
  Counting counting{args, until, stream_->take_ticket()};
  device::Completion& completion = counting.args.completion;
  completion = counting.ticket->completion;
  if (until == Until::kCounted) completion.flag = nullptr;
  counting.args.message.number = counting.ticket->number();
  check(device::launch_layout(counting.args, stream_->get()), "the layout of a dispatch");
  return counting;
}

CudaDevice::Counts CudaDevice::await_counts(const Counting& counting) const {
  const device::LayoutArgs& args = counting.args;
  const auto num_words = device::CountMessage::num_words(args.num_ranks, args.num_experts);
  const std::span words(counted_.get(), num_words);
  std::size_t num_come = 0;
  const auto have_come = [&] {
    if (counting.until == Until::kThrough) return CommunicationStream::is_through(*counting.ticket);
    const auto has_come = [&](std::uint64_t& word) {
      return device::is_stamped(std::atomic_ref(word).load(std::memory_order_acquire), args.message.number);
    };
    while (num_come < num_words && has_come(words[num_come])) ++num_come;
    return num_come == num_words;
  };
  stream_->await(have_come, Deadline(timeout_));

  const auto low = device::value_of(words[num_words - 2]);
  const auto high = device::value_of(words[num_words - 1]);
  const std::uint64_t bad_id = std::uint64_t{high} << 32U | low;
  if (bad_id != 0) throw_bad_id(args, static_cast<std::int64_t>(~bad_id));
  Counts counts;
  const auto take = [](std::vector<std::int32_t>& to, std::span<const std::uint64_t> from) {
    to.resize(from.size());
    std::ranges::transform(from, to.begin(), device::value_of);
  };
  const auto num_ranks = static_cast<std::size_t>(args.num_ranks);
  take(counts.per_rank, words.first(num_ranks));
  take(counts.per_expert, words.subspan(num_ranks, num_words - 2 - num_ranks));
  return counts;
}

void CudaDevice::throw_bad_id(const device::LayoutArgs& args, std::int64_t place) const {
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
  static_cast<void>(await_counts(begin_count(args, Until::kThrough)));
  return layout;
}

std::function<void()> CudaDevice::plan(const DispatchInput& input, DispatchHandle::State& state) {
  const DeviceGuard guard(stream_->device().index);
  state.copy_to_host = [stream = stream_](const Tensor& tensor) {
    const DeviceGuard own_device(stream->device().index);
    return cuda::copy_to_host(tensor, stream->get());
  };
  const auto counting = begin_count(state.is_expanded() ? plan_expanded(input, state) : plan_rows(input, state));
  return [this, counting, &input, &state] {
    const DeviceGuard own_device(stream_->device().index);
    take(await_counts(counting), input.layout.has_value(), state);
  };
}

device::LayoutArgs CudaDevice::plan_rows(const DispatchInput& input, DispatchHandle::State& state) {
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
    fetch(input.layout->num_tokens_per_rank, given_per_rank_.get());
    fetch(input.layout->num_tokens_per_expert, given_per_expert_.get());
    state.is_token_in_rank = input.layout->is_token_in_rank;
    args.membership = input.layout->is_token_in_rank.data_as<std::uint8_t>();
    return args;
  }
  state.is_token_in_rank = Tensor::own(tables.owner(), state.send_rows.data_as<std::int32_t>() + entries,
                                       DataType::kBool, shape, tables.device());
  args.is_token_in_rank = state.is_token_in_rank.data_as<std::uint8_t>();
  return args;
}

device::LayoutArgs CudaDevice::plan_expanded(const DispatchInput& input, DispatchHandle::State& state) {
  state.is_token_in_rank = allocate(DataType::kBool, std::array{state.num_tokens, std::int64_t{num_ranks_}});
  device::LayoutArgs args = make_args(state.num_tokens, state.num_experts);
  set_ids(args, *input.topk_idx);
  args.is_token_in_rank = state.is_token_in_rank.data_as<std::uint8_t>();
  if (input.layout) fetch(input.layout->num_tokens_per_expert, given_per_expert_.get());
  return args;
}

void CudaDevice::fetch(const Tensor& from, std::int32_t* to) const {
  check(cudaMemcpyAsync(to, from.data(), from.num_bytes(), cudaMemcpyDeviceToHost, stream_->get()),
        "the counts of a layout");
}

void CudaDevice::take(Counts counts, bool has_given, DispatchHandle::State& state) const {
  if (has_given && state.is_expanded()) {
    for (std::size_t e = 0; e < counts.per_expert.size(); ++e) {
      require(given_per_expert_[e] == counts.per_expert[e],
              "num_tokens_per_expert says {} for expert {}, but topk_idx selects it {} times", given_per_expert_[e], e,
              counts.per_expert[e]);
    }
  } else if (has_given) {
    for (std::size_t rank = 0; rank < counts.per_rank.size(); ++rank) {
      require(given_per_rank_[rank] == counts.per_rank[rank],
              "num_tokens_per_rank says {} tokens for rank {}, but is_token_in_rank has {}", given_per_rank_[rank],
              rank, counts.per_rank[rank]);
    }
    counts.per_expert.assign(given_per_expert_.get(), given_per_expert_.get() + state.num_experts);
  }
  state.num_tokens_per_rank = std::move(counts.per_rank);
  state.num_tokens_per_expert = std::move(counts.per_expert);
}

}  // namespace crossdock::cuda
