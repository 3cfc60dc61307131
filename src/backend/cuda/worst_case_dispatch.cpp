#include "backend/cuda/worst_case_dispatch.hpp"

#include <algorithm>
#include <array>
#include <initializer_list>
#include <span>

#include "backend/cuda/cuda_error.hpp"
#include "backend/cuda/factory.hpp"
#include "backend/cuda/requests.hpp"
#include "backend/cuda/selections.hpp"
#include "base/error.hpp"
#include "plan/experts.hpp"

namespace crossdock::cuda {

namespace {

/// What is on the device when the operations before have ended. CUDA graphs keep handles: those keep no buffer, of
/// which nothing runs any more when it is gone.
Tensor fetch(const std::weak_ptr<const Node>& buffer, const Tensor& tensor) {
  if (const std::shared_ptr<const Node> node = buffer.lock()) return node->queue->copy_to_host(tensor);
  return copy_to_host(tensor);
}

}  // namespace

/// Tensors that are allocated together.
class WorstCaseDispatch::TensorList {
 public:
  void add(Tensor& tensor, DataType dtype, std::initializer_list<std::int64_t> shape) {
    std::array<std::int64_t, 3>& kept = shapes_.at(count_);
    std::copy(shape.begin(), shape.end(), kept.begin());
    add({&tensor, dtype, std::span(kept).first(shape.size())});
  }
  void add(const host::WantedTensor& wanted) { tensors_.at(count_++) = wanted; }
  [[nodiscard]] std::span<const host::WantedTensor> get() const noexcept { return std::span(tensors_).first(count_); }

 private:
  static constexpr std::size_t kMost = 12;

  std::array<std::array<std::int64_t, 3>, kMost> shapes_{};
  std::array<host::WantedTensor, kMost> tensors_{};
  std::size_t count_ = 0;
};

std::int64_t WorstCaseDispatch::num_rows() const noexcept {
  return request_.is_cached() ? handle_.num_recv_rows : *request_.num_worst_tokens;
}

void WorstCaseDispatch::send(const Deadline& deadline) {
  const DeviceGuard guard(node_->stream->device().index);
  launch_ = node_->queue->begin("dispatch", request_.epoch, request_.completion, request_.stream);
  allocate();
  if (!request_.is_cached()) {
    complete_handle();
    count();
  }
  move(deadline);
  node_->queue->note_launched(launch_);
  if (launch_.captured && request_.is_cached()) launch_.captured->keep(request_.handle);
  if (request_.layout) keep(*request_.layout);
}

/// Kernels read the layout later. If this buffer made it, its memory is given back in the order of another stream.
void WorstCaseDispatch::keep(const DispatchLayout& layout) const {
  for (const Tensor& given : {layout.num_tokens_per_rank, layout.num_tokens_per_expert, layout.is_token_in_rank}) {
    node_->queue->keep(launch_, given);
    if (launch_.captured) launch_.captured->keep(given.owner());
  }
}

void WorstCaseDispatch::finish(const Deadline& deadline) {
  if (launch_.ticket) node_->queue->await(launch_, deadline);
}

void WorstCaseDispatch::allocate() {
  const std::int64_t rows = num_rows();
  TensorList wanted;
  wanted.add(result_.recv_x, request_.x.dtype(), {rows, request_.x.size(1)});
  if (const auto& scales = request_.x_scales) {
    wanted.add(result_.recv_x_scales.emplace(), scales->dtype(), {rows, scales->size(1)});
  }
  wanted.add(table_, DataType::kUint8, {sizeof(device::SendTable)});
  if (!request_.is_cached()) want_counts(wanted);
  node_->queue->allocate(launch_, wanted.get());
}

/// Of a dispatch that counts.
void WorstCaseDispatch::want_counts(TensorList& wanted) {
  const std::int64_t rows = num_rows();
  const std::int64_t num_tokens = request_.x.size(0);
  const std::int64_t num_topk = request_.topk_idx->size(1);
  const int num_ranks = node_->group->num_ranks();
  const int num_own_groups = handle_.is_expanded() ? num_groups() : 0;
  DispatchHandle::State& handle = *request_.new_handle;
  wanted.add(recv_src_idx_, DataType::kInt32, {rows});
  wanted.add(handle.counts_on_device, DataType::kUint8,
             {static_cast<std::int64_t>(device::HandleCounts::bytes(num_ranks, num_own_groups))});
  if (handle_.is_expanded()) {
    wanted.add(result_.recv_topk_weights.emplace(), DataType::kFloat32, {rows});
    wanted.add(result_.group_ends.emplace(), DataType::kInt32, {num_own_groups});
    wanted.add(group_scratch_, DataType::kInt32, {2 + 2 * num_sms_, handle_.num_experts});
    wanted.add(handle.send_rows, DataType::kInt32, {3, num_tokens, num_topk});  // see selections_of
  } else {
    wanted.add(result_.recv_topk_idx.emplace(), request_.topk_idx->dtype(), {rows, num_topk});
    wanted.add(result_.recv_topk_weights.emplace(), DataType::kFloat32, {rows, num_topk});
    wanted.add(handle.send_rows, DataType::kInt32, {num_tokens, num_ranks});
  }
  if (reads_membership()) {
    handle.is_token_in_rank = request_.layout->is_token_in_rank;
  } else {
    wanted.add(handle.is_token_in_rank, DataType::kBool, {num_tokens, num_ranks});
  }
  wanted.add(layout_.wanted_masks());
  wanted.add(layout_.wanted_block_counts());
}

/// What the handle can say before the dispatch has run.
void WorstCaseDispatch::complete_handle() {
  DispatchHandle::State& handle = *request_.new_handle;
  handle.recv_src_idx = recv_src_idx_;
  handle.num_recv_rows = num_rows();
  if (result_.group_ends) handle.group_ends = *result_.group_ends;
  handle.memory = launch_.captured;
  handle.copy_to_host = [node = std::weak_ptr(node_)](const Tensor& tensor) { return fetch(node, tensor); };
  const int num_ranks = node_->group->num_ranks();
  handle.fetch_counts = [node = std::weak_ptr(node_), counts = handle.counts_on_device, num_ranks] {
    const Tensor fetched = fetch(node, counts);
    const auto* const begin = fetched.data_as<std::byte>();
    const auto* const tokens = reinterpret_cast<const std::int64_t*>(begin + device::HandleCounts::num_tokens_of());
    const auto* rows = reinterpret_cast<const std::int32_t*>(begin + device::HandleCounts::counts(num_ranks));
    DispatchHandle::State::Counts result{plan::CountMatrix(num_ranks), {tokens, tokens + num_ranks}};
    for (int from = 0; from < num_ranks; ++from, rows += num_ranks) {
      std::copy(rows, rows + num_ranks, result.rows.row(from).begin());
    }
    return result;
  };
}

void WorstCaseDispatch::count() const {
  device::LayoutArgs args = layout_args_of(request_.x.size(0), handle_.num_experts, node_->group->num_ranks());
  if (reads_membership()) {
    args.membership = request_.layout->is_token_in_rank.data_as<std::uint8_t>();
  } else {
    args.is_token_in_rank = handle_.is_token_in_rank.data_as<std::uint8_t>();
  }
  if (!handle_.is_expanded()) args.rows = handle_.send_rows.data_as<std::int32_t>();
  layout_.launch(*node_, *request_.topk_idx, args, launch_.stream);
  if (!handle_.is_expanded()) return;
  check(device::launch_selection_counts(make_selection_args(), num_sms_, launch_.stream),
        "the selections of a dispatch");
}

int WorstCaseDispatch::num_groups() const {
  return plan::ExpertMap(handle_.num_experts, node_->group->num_ranks()).count(node_->group->rank());
}

device::SelectionArgs WorstCaseDispatch::make_selection_args() const {
  device::SelectionArgs args = selection_args_of(request_, node_->group->num_ranks());
  auto* const scratch = group_scratch_.data_as<std::int32_t>();
  args.first_rows = scratch;
  args.block_counts = scratch + std::ptrdiff_t{2} * handle_.num_experts;
  args.next_rows = args.block_counts + std::ptrdiff_t{num_sms_} * handle_.num_experts;
  return args;
}

device::PaddingArgs WorstCaseDispatch::make_padding_args() const {
  // There is no padding between groups that begin anywhere.
  device::PaddingArgs args = padding_args_of(request_, result_, handle_.expert_alignment > 1 ? num_groups() : 0);
  args.group_ends = reinterpret_cast<const std::int32_t*>(handle_.counts_on_device.data_as<std::byte>() +
                                                          device::HandleCounts::group_ends(node_->group->num_ranks()));
  return args;
}

device::WorstCaseArgs WorstCaseDispatch::make_args(const Deadline& deadline) const {
  device::WorstCaseArgs args;
  args.party = node_->queue->party(launch_, device::Phases::kBoth, {}, deadline.timeout(), request_.wait_costs);
  args.kind = request_.is_cached() ? device::OperationKind::kCachedDispatch : device::OperationKind::kWorstCaseDispatch;
  args.num_experts = handle_.num_experts;
  args.dtypes = static_cast<std::uint32_t>(request_.x.dtype());
  args.num_scales = -1;
  args.num_tokens = request_.x.size(0);
  args.hidden = request_.x.size(1);
  args.extent = num_rows();
  args.placement.x = node_->offset_of(result_.recv_x);
  args.recv_x = result_.recv_x.data_as<std::byte>();
  if (request_.x_scales) {
    args.num_scales = static_cast<std::int32_t>(request_.x_scales->size(1));
    args.dtypes |= static_cast<std::uint32_t>(request_.x_scales->dtype()) << 8U;
    args.placement.scales = node_->offset_of(*result_.recv_x_scales);
    args.recv_scales = result_.recv_x_scales->data_as<std::byte>();
    args.scale_row_bytes = row_bytes(*request_.x_scales);
  }
  if (!request_.is_cached()) {
    args.num_topk = static_cast<std::int32_t>(request_.topk_idx->size(1));
    args.id_bytes = static_cast<std::int32_t>(size_of(request_.topk_idx->dtype()));
    args.topk_idx = request_.topk_idx->data_as<std::byte>();
    if (result_.recv_topk_idx) args.placement.topk_idx = node_->offset_of(*result_.recv_topk_idx);
    args.placement.topk_weights = node_->offset_of(*result_.recv_topk_weights);
    args.placement.src_idx = node_->offset_of(recv_src_idx_);
    args.found = node_->count_scratch.found();
    if (handle_.is_expanded()) {
      args.groups.first_rows = group_scratch_.data_as<std::int32_t>();
      args.groups.ends = result_.group_ends->data_as<std::int32_t>();
    }
    if (const auto& layout = request_.layout; layout && handle_.is_expanded()) {
      args.groups.given_per_expert = layout->num_tokens_per_expert.data_as<std::int32_t>();
    } else if (layout) {
      args.given_per_rank = layout->num_tokens_per_rank.data_as<std::int32_t>();
    }
  }
  args.groups.alignment = handle_.expert_alignment;
  args.handle = counts();
  args.send = table_.data_as<device::SendTable>();
  args.row_bytes = row_bytes(request_.x);
  if (request_.statistics) args.statistics = request_.statistics->data_as<std::int32_t>();
  args.completion = launch_.completion();
  return args;
}

void WorstCaseDispatch::move(const Deadline& deadline) const {
  device::SendArgs rows = send_args_of(request_, node_->group->num_ranks());
  if (!request_.is_cached()) {
    rows.unused.num_rows = num_rows();
    if (result_.recv_topk_idx) rows.unused.topk_idx = result_.recv_topk_idx->data_as<std::byte>();
    rows.unused.topk_weights = result_.recv_topk_weights->data_as<float>();
    rows.unused.src_idx = recv_src_idx_.data_as<std::int32_t>();
  }
  const device::WorstCaseArgs args = make_args(deadline);
  if (!handle_.is_expanded()) {
    return check(device::launch_worst_case_dispatch(args, rows, num_sms_, launch_.stream), "dispatch");
  }
  const device::SelectionArgs selections = request_.is_cached() ? device::SelectionArgs() : make_selection_args();
  check(device::launch_expanded_worst_case_dispatch(args, rows, selections, make_padding_args(), num_sms_,
                                                    launch_.stream),
        "dispatch");
}

}  // namespace crossdock::cuda
