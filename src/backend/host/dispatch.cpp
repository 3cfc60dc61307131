#include "backend/host/dispatch.hpp"

#include <algorithm>
#include <array>
#include <atomic>
#include <cstring>
#include <vector>

#include "backend/host/agreement.hpp"
#include "backend/host/excluded.hpp"
#include "backend/host/kernels.hpp"
#include "backend/host/row_extras.hpp"
#include "base/error.hpp"

namespace crossdock::host {

namespace {

constexpr std::string_view kName = "dispatch";

}  // namespace

Dispatch::Dispatch(std::shared_ptr<Group> group, const backend::DispatchRequest& request)
    : group_(std::move(group)),
      request_(request),
      handle_(*request_.handle),
      experts_(std::max(handle_.num_experts, 1), group_->num_ranks()) {}

std::size_t Dispatch::row_bytes() const {
  return static_cast<std::size_t>(request_.x.size(1)) * size_of(request_.x.dtype());
}

std::size_t Dispatch::bytes_sent() const { return route().row.size() * row_bytes(); }

void Dispatch::start(const Deadline& deadline) {
  group_->open_epoch(request_.epoch, kName, deadline);
  Stopwatch watch;
  if (is_worst_case()) {
    try {
      allocate_results(*request_.num_worst_tokens);
    } catch (const Error& error) {
      throw group_->refuse_as(kName, request_.epoch, error, deadline);
    }
    write_placement();
  }
  write_announcement();
  group_->signals.signal(Phase::kAnnounce, request_.epoch);
  is_placed_ = is_worst_case();
  if (is_worst_case()) return;
  exchange_counts(deadline);
  times_.announce_us = watch.lap();
  try {
    place(deadline);
  } catch (const Error& error) {
    if (error.code() == ErrorCode::kState) keep_slabs(error);  // otherwise nobody sends
    throw;
  }
  times_.place_us = watch.lap();
}

void Dispatch::finish(const Deadline& deadline) {
  group_->guarded([&] {
    try {
      move_rows(deadline);
    } catch (const Error& error) {
      keep_slabs(error);
      throw;
    }
  });
}

void Dispatch::keep_slabs(const Error& error) {
  // Other errors arise on all ranks before anything moves.
  const bool may_be_written = error.code() == ErrorCode::kPeerLost || error.code() == ErrorCode::kState;
  if (!group_->signals.masks().in_use() || !may_be_written || !is_placed_) return;
  group_->signals.stop(Phase::kSend, request_.epoch);
  std::vector<Tensor> slabs{result_.recv_x, recv_src_idx_};
  for (const auto& tensor : {result_.recv_x_scales, result_.recv_topk_idx, result_.recv_topk_weights}) {
    if (tensor) slabs.push_back(*tensor);
  }
  group_->kept_slabs.keep(request_.epoch, std::move(slabs));
}

void Dispatch::move_rows(const Deadline& deadline) {
  Stopwatch watch;
  if (is_worst_case()) {
    exchange_counts(deadline);
    fill_unused_rows();
    times_.announce_us = watch.lap();
  }
  read_placements();
  const CpuStopwatch cpu(bytes_sent());
  send(deadline);
  times_.copy_cpu_us = cpu.elapsed();
  group_->signals.signal(Phase::kSend, request_.epoch);
  times_.copy_us = watch.lap();
  group_->signals.wait_all(Phase::kSend, request_.epoch, kName, deadline, wait_costs_of(request_.wait_costs));
  group_->signals.retire(request_.epoch);
  times_.wait_us = watch.lap();
}

void Dispatch::write_announcement() {
  Slot& slot = group_->own_slot(request_.epoch);
  Announcement& a = slot.announcement = Announcement{};
  a.kind = request_.is_cached() ? OperationKind::kCachedDispatch : OperationKind::kDispatch;
  a.dtype = static_cast<std::uint32_t>(request_.x.dtype());
  a.hidden = request_.x.size(1);
  a.num_tokens = request_.x.size(0);
  if (request_.x_scales) {
    a.scale_dtype = static_cast<std::uint32_t>(request_.x_scales->dtype());
    a.num_scales = static_cast<std::int32_t>(request_.x_scales->size(1));
  }
  if (request_.topk_idx) {
    a.num_topk = static_cast<std::int32_t>(request_.topk_idx->size(1));
    a.topk_dtype = static_cast<std::uint32_t>(request_.topk_idx->dtype());
  }
  if (request_.is_cached()) {
    a.handle_epoch = handle_.epoch;
    return;
  }
  a.num_experts = handle_.num_experts;
  a.expert_alignment = handle_.expert_alignment;
  a.has_worst_tokens = is_worst_case() ? 1 : 0;
  a.num_worst_tokens = request_.num_worst_tokens.value_or(-1);
  const WindowLayout& layout = group_->windows.layout;
  std::copy(handle_.num_tokens_per_rank.begin(), handle_.num_tokens_per_rank.end(), layout.rank_counts(slot).begin());
  std::copy(handle_.num_tokens_per_expert.begin(), handle_.num_tokens_per_expert.end(),
            layout.expert_counts(slot).begin());
}

void Dispatch::exchange_counts(const Deadline& deadline) {
  group_->signals.wait_all(Phase::kAnnounce, request_.epoch, kName, deadline, wait_costs_of(request_.wait_costs));
  try {
    check_agreement(group_->windows, group_->signals, request_.epoch, kName);
    excluded_ = find_excluded(group_->signals, group_->num_ranks(), request_.epoch);
    if (!request_.is_cached()) read_counts();
    if (!excluded_.empty()) leave_out_excluded();
    if (!request_.is_cached()) check_worst_case();
    if (!request_.is_cached() && handle_.is_expanded()) route_selections();
    group_->signals.check_records(request_.epoch, kName);
    if (request_.statistics) add_statistics();
  } catch (const Error&) {
    group_->signals.retire(request_.epoch);  // every rank throws here, so the group goes on
    group_->signals.check_records(request_.epoch, kName);
    throw;
  }
}

void Dispatch::leave_out_excluded() {
  if (request_.is_cached()) {
    route_ = without(handle_.route, excluded_);
  } else {
    leave_out(*request_.new_handle, excluded_);
  }
}

void Dispatch::read_placements() {
  placements_.resize(static_cast<std::size_t>(group_->num_ranks()));
  for (int rank = 0; rank < group_->num_ranks(); ++rank) {
    placements_[static_cast<std::size_t>(rank)] = group_->windows.slot(rank, request_.epoch).placement;
  }
  group_->signals.check_records(request_.epoch, kName);
}

void Dispatch::read_counts() {
  const WindowLayout& layout = group_->windows.layout;
  for (int src = 0; src < group_->num_ranks(); ++src) {
    Slot& slot = group_->windows.slot(src, request_.epoch);
    std::ranges::copy(layout.rank_counts(slot), request_.new_handle->counts.row(src).begin());
    request_.new_handle->num_tokens_of[static_cast<std::size_t>(src)] = slot.announcement.num_tokens;
  }
  if (handle_.is_expanded()) read_groups();
  if (!is_worst_case()) count_experts();
}

void Dispatch::add_statistics() const {
  // Atomically: operations in flight may share the statistics.
  auto* totals = request_.statistics->data_as<std::int32_t>();
  const auto begin = static_cast<std::size_t>(experts_.begin(group_->rank()));
  for (int src = 0; src < group_->num_ranks(); ++src) {
    if (group_->signals.is_excluded(src, request_.epoch)) continue;
    const auto counts = group_->windows.layout.expert_counts(group_->windows.slot(src, request_.epoch));
    for (std::size_t e = 0; e < static_cast<std::size_t>(request_.statistics->size(0)); ++e) {
      std::atomic_ref(totals[e]).fetch_add(counts[begin + e], std::memory_order_relaxed);
    }
  }
}

void Dispatch::count_experts() {
  const int begin = experts_.begin(group_->rank());
  auto& totals = result_.num_recv_tokens_per_expert;
  totals.assign(static_cast<std::size_t>(experts_.count(group_->rank())), 0);
  for (int src = 0; src < group_->num_ranks(); ++src) {
    if (!takes_part(src)) continue;
    const auto counts = group_->windows.layout.expert_counts(group_->windows.slot(src, request_.epoch));
    for (std::size_t e = 0; e < totals.size(); ++e) totals[e] += counts[static_cast<std::size_t>(begin) + e];
  }
  const std::int32_t unit = request_.expert_alignment;
  for (std::int32_t& total : totals) total = (total + unit - 1) / unit * unit;
}

void Dispatch::check_worst_case() const {
  if (!is_worst_case()) return;
  for (int rank = 0; rank < group_->num_ranks(); ++rank) {
    if (!takes_part(rank)) continue;
    const std::int64_t allowed = group_->windows.slot(rank, request_.epoch).announcement.num_worst_tokens;
    const std::int64_t received = num_rows_of(rank);
    if (received <= allowed) continue;
    Error error =
        make_error(ErrorCode::kCapacity, "dispatch: rank {} would receive {} tokens, but num_worst_tokens is {} there",
                   rank, received, allowed);
    throw error.with_rank(rank);
  }
}

void Dispatch::allocate_results(std::int64_t num_rows) {
  const auto rows_of = [&](DataType dtype, std::int64_t columns) {
    return group_->allocate(dtype, std::array{num_rows, columns});
  };
  result_.recv_x = rows_of(request_.x.dtype(), request_.x.size(1));
  if (request_.x_scales) result_.recv_x_scales = rows_of(request_.x_scales->dtype(), request_.x_scales->size(1));
  if (request_.topk_idx && !handle_.is_expanded()) {
    result_.recv_topk_idx = rows_of(request_.topk_idx->dtype(), request_.topk_idx->size(1));
    result_.recv_topk_weights = rows_of(DataType::kFloat32, request_.topk_idx->size(1));
  }
  if (request_.is_cached()) return;
  if (handle_.is_expanded()) {
    result_.recv_topk_weights = group_->allocate(DataType::kFloat32, std::array{num_rows});
    result_.group_ends = group_->allocate(DataType::kInt32, std::array{std::int64_t{experts_.count(group_->rank())}});
    request_.new_handle->group_ends = *result_.group_ends;
  }
  recv_src_idx_ = group_->allocate(DataType::kInt32, std::array{num_rows});
  request_.new_handle->recv_src_idx = recv_src_idx_;
  request_.new_handle->num_recv_rows = num_rows;
}

void Dispatch::write_placement() {
  Placement placement;
  placement.x = group_->offset_of(result_.recv_x);
  if (result_.recv_x_scales) placement.scales = group_->offset_of(*result_.recv_x_scales);
  if (result_.recv_topk_idx) placement.topk_idx = group_->offset_of(*result_.recv_topk_idx);
  if (result_.recv_topk_weights) placement.topk_weights = group_->offset_of(*result_.recv_topk_weights);
  if (!request_.is_cached()) placement.src_idx = group_->offset_of(recv_src_idx_);
  group_->own_slot(request_.epoch).placement = placement;
}

void Dispatch::place(const Deadline& deadline) {
  const std::size_t free_before = group_->arena->bytes_free();
  try {
    allocate_results(num_result_rows());
    write_placement();
  } catch (const Error&) {
    result_ = {};
    recv_src_idx_ = {};
    if (!request_.is_cached()) request_.new_handle->recv_src_idx = request_.new_handle->group_ends = {};
    Placement none;
    // What is free may be in pieces: then the arena must be larger by all that comes.
    const std::size_t in_use = group_->arena->bytes_total() - free_before;
    none.bytes_needed =
        std::max(in_use, bytes_received() <= free_before ? group_->arena->bytes_total() : 0) + bytes_received();
    group_->own_slot(request_.epoch).placement = none;
  }
  group_->signals.signal(Phase::kPlace, request_.epoch);
  is_placed_ = true;
  group_->signals.wait_all(Phase::kPlace, request_.epoch, kName, deadline, wait_costs_of(request_.wait_costs));
  try {
    check_places();
  } catch (const Error&) {
    group_->signals.retire(request_.epoch);
    throw;
  }
}

std::size_t Dispatch::bytes_received() const {
  const auto rows = static_cast<std::size_t>(num_result_rows());
  const auto rounded_up = [](std::size_t bytes) {
    return (bytes + Arena::kSlabAlignment - 1) / Arena::kSlabAlignment * Arena::kSlabAlignment;
  };
  const auto slab = [&](std::size_t row) { return rounded_up(rows * row); };
  std::size_t bytes = slab(row_bytes());
  if (request_.x_scales)
    bytes += slab(static_cast<std::size_t>(request_.x_scales->size(1)) * size_of(request_.x_scales->dtype()));
  if (request_.topk_idx && handle_.is_expanded()) {
    bytes += slab(sizeof(float)) +
             rounded_up(static_cast<std::size_t>(experts_.count(group_->rank())) * sizeof(std::int32_t));
  } else if (request_.topk_idx) {
    const auto num_topk = static_cast<std::size_t>(request_.topk_idx->size(1));
    bytes += slab(num_topk * size_of(request_.topk_idx->dtype())) + slab(num_topk * sizeof(float));
  }
  if (!request_.is_cached()) bytes += slab(sizeof(std::int32_t));
  return bytes;
}

void Dispatch::check_places() const {
  for (int rank = 0; rank < group_->num_ranks(); ++rank) {
    if (!takes_part(rank)) continue;
    const std::uint64_t needed = group_->windows.slot(rank, request_.epoch).placement.bytes_needed;
    if (needed == 0) continue;
    Error error = make_error(ErrorCode::kCapacity,
                             "dispatch: the arena of rank {} has no room for what it would receive ({} rows); "
                             "BufferOptions::arena_bytes of {} there would do (tensors that are alive now included)",
                             rank, num_rows_of(rank), needed);
    throw error.with_rank(rank);
  }
}

void Dispatch::send(const Deadline& /*deadline*/) {
  send_rows();
  send_extras();
  // The rows of excluded ranks keep their places in the result of a cached dispatch.
  for_each_absent([this](std::int64_t begin, std::int64_t count) { clear_rows(begin, count); });
  if (handle_.is_expanded()) finish_groups();
}

void Dispatch::clear_rows(std::int64_t begin, std::int64_t count) const {
  const auto clear = [&](const Tensor& tensor) {
    const std::size_t bytes = static_cast<std::size_t>(tensor.size(1)) * size_of(tensor.dtype());
    const std::size_t cleared = static_cast<std::size_t>(count) * bytes;
    if (cleared > 0) std::memset(tensor.data_as<std::byte>() + static_cast<std::size_t>(begin) * bytes, 0, cleared);
  };
  clear(result_.recv_x);
  if (result_.recv_x_scales) clear(*result_.recv_x_scales);
}

void Dispatch::send_rows() const {
  const int num_ranks = group_->num_ranks();
  std::vector<std::byte*> blocks(static_cast<std::size_t>(num_ranks));
  for (int dst = 0; dst < num_ranks; ++dst) {
    const Placement& placement = placements_[static_cast<std::size_t>(dst)];
    blocks[static_cast<std::size_t>(dst)] =
        group_->windows.data(dst) + placement.x +
        static_cast<std::size_t>(handle_.first_row(group_->rank(), dst)) * row_bytes();
  }
  MulticastArgs args;
  args.route = &route();
  args.source = request_.x.data_as<std::byte>();
  args.source_stride = static_cast<std::size_t>(request_.x.stride(0)) * size_of(request_.x.dtype());
  args.row_bytes = row_bytes();
  args.destinations = blocks.data();
  args.stores = stores_for(bytes_sent());
  multicast_rows(args);
}

void Dispatch::send_extras() const {
  RowExtras extras;
  extras.handle = &handle_;
  extras.route = &route();
  extras.placements = placements_;
  extras.experts = &experts_;
  extras.x_scales = request_.x_scales;
  extras.topk_idx = request_.topk_idx;
  extras.topk_weights = request_.topk_weights;
  extras.is_cached = request_.is_cached();
  send_row_extras(extras, group_->windows);
}

void Dispatch::fill_unused_rows() {
  if (handle_.is_expanded()) {
    return fill_padding(num_rows_of(group_->rank()), *request_.num_worst_tokens);
  }
  const auto num_topk = result_.recv_topk_idx->size(1);
  const std::int64_t used = handle_.num_recv_tokens() * num_topk;
  const std::int64_t all = *request_.num_worst_tokens * num_topk;
  if (result_.recv_topk_idx->dtype() == DataType::kInt64) {
    std::fill(result_.recv_topk_idx->data_as<std::int64_t>() + used,
              result_.recv_topk_idx->data_as<std::int64_t>() + all, -1);
  } else {
    std::fill(result_.recv_topk_idx->data_as<std::int32_t>() + used,
              result_.recv_topk_idx->data_as<std::int32_t>() + all, -1);
  }
  std::fill(result_.recv_topk_weights->data_as<float>() + used, result_.recv_topk_weights->data_as<float>() + all,
            0.0F);
}

}  // namespace crossdock::host
