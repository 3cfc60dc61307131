#include "backend/host/combine.hpp"

#include <algorithm>
#include <array>
#include <cstring>
#include <vector>

#include "backend/host/excluded.hpp"
#include "backend/host/kernels.hpp"
#include "backend/host/stopwatch.hpp"
#include "base/bfloat16.hpp"
#include "base/error.hpp"

namespace crossdock::host {

namespace {

constexpr std::string_view kName = "combine";

std::size_t row_stride_bytes(const Tensor& tensor) {
  return static_cast<std::size_t>(tensor.stride(0)) * size_of(tensor.dtype());
}

/// Bytes from the first element to the last of a tensor whose rows are contiguous.
std::size_t extent_bytes(const Tensor& tensor) {
  if (tensor.num_elements() == 0) return 0;
  return static_cast<std::size_t>(tensor.size(0) - 1) * row_stride_bytes(tensor) +
         static_cast<std::size_t>(tensor.size(1)) * size_of(tensor.dtype());
}

}  // namespace

Buffer::PhaseTimes Combine::run(const Deadline& deadline) {
  try {
    return run_phases(deadline);
  } catch (const Error& error) {
    // Masked meanwhile: those who count on this rank's rows still read them.
    const bool is_masked = error.code() == ErrorCode::kState && !group_.signals.is_broken();
    if (is_announced_ && is_masked) group_.await_readers(request_.epoch, deadline);
    throw;
  }
}

Buffer::PhaseTimes Combine::run_phases(const Deadline& deadline) {
  Buffer::PhaseTimes times;
  Stopwatch watch;
  announce(deadline);
  times.place_us = watch.lap();
  await_announcements(deadline);
  times.announce_us = watch.lap();
  const CpuStopwatch cpu(request_.out.num_bytes());
  reduce(deadline);
  times.copy_cpu_us = cpu.elapsed();
  group_.signals.signal(Phase::kDone, request_.epoch);
  times.copy_us = watch.lap();
  // The rows of this rank may change or go once no one reads them any more.
  group_.signals.wait_all(Phase::kDone, request_.epoch, kName, deadline, wait_costs_of(request_.wait_costs));
  group_.signals.retire(request_.epoch);
  times.wait_us = watch.lap();
  return times;
}

Tensor Combine::stage(const Tensor& tensor, const Deadline& deadline) {
  if (group_.arena->offset_of(tensor.data(), extent_bytes(tensor))) return tensor;
  // From the arena's end on rows lie at multiples of 256 bytes, if they are as many long, and not behind whatever was
  // received: from odd multiples of 128 on a CUDA device stores and reads 4% slower.
  Tensor staged = group_.allocate(tensor.dtype(), tensor.shape(), SlabUse::kStaged);
  copy_rows(tensor, staged, deadline);
  return staged;
}

/// A copy of many rows goes past the caches like any other multicast, to one destination.
void Combine::copy_rows(const Tensor& from, const Tensor& to, const Deadline& /*deadline*/) {
  const std::size_t row_bytes = static_cast<std::size_t>(from.size(1)) * size_of(from.dtype());
  const auto rows = static_cast<std::size_t>(from.size(0));
  plan::RouteTable route;
  route.begin.resize(rows + 1);
  route.rank.assign(rows, 0);
  route.row.resize(rows);
  for (std::size_t i = 0; i < rows; ++i) {
    route.begin[i + 1] = static_cast<std::int32_t>(i + 1);
    route.row[i] = static_cast<std::int32_t>(i);
  }
  std::byte* destination = to.data_as<std::byte>();
  MulticastArgs args;
  args.route = &route;
  args.source = from.data_as<std::byte>();
  args.source_stride = row_stride_bytes(from);
  args.row_bytes = row_bytes;
  args.destinations = &destination;
  args.stores = stores_for(rows * row_bytes);
  multicast_rows(args);
}

void Combine::announce(const Deadline& deadline) {
  try {
    x_ = stage(request_.x, deadline);
    if (request_.topk_weights) weights_ = stage(*request_.topk_weights, deadline);
  } catch (const Error& error) {
    throw group_.refuse_as(kName, request_.epoch, error, deadline);
  }
  group_.open_epoch(request_.epoch, kName, deadline);
  Announcement& a = group_.own_slot(request_.epoch).announcement = Announcement{};
  a.kind = OperationKind::kCombine;
  a.dtype = static_cast<std::uint32_t>(request_.x.dtype());
  a.hidden = request_.x.size(1);
  a.handle_epoch = request_.handle->epoch;
  a.num_tokens = request_.out.size(0);
  a.has_weights = request_.topk_weights ? 1 : 0;
  if (request_.topk_weights) a.num_topk = static_cast<std::int32_t>(request_.topk_weights->size(1));
  a.x_offset = *group_.arena->offset_of(x_.data(), 0);
  a.x_stride = row_stride_bytes(x_);
  if (weights_) a.weights_offset = *group_.arena->offset_of(weights_->data(), 0);
  group_.signals.signal(Phase::kAnnounce, request_.epoch);
  is_announced_ = true;
}

void Combine::await_announcements(const Deadline& deadline) {
  group_.await_agreement(request_.epoch, kName, deadline, wait_costs_of(request_.wait_costs));
  excluded_ = find_excluded(group_.signals, group_.num_ranks(), request_.epoch);
  if (!excluded_.empty()) route_ = without(request_.handle->route, excluded_);
  for (int rank = 0; rank < group_.num_ranks(); ++rank) {
    const Announcement& a = group_.windows.slot(rank, request_.epoch).announcement;
    contributions_.push_back({a.x_offset, a.x_stride, a.weights_offset});
  }
  group_.signals.check_records(request_.epoch, kName);
}

void Combine::reduce(const Deadline& /*deadline*/) {
  reduce_rows();
  if (!request_.topk_weights) return;
  request_.handle->is_expanded() ? return_weights() : reduce_weights();
}

/// Of an expanded dispatch: each column gets the weight of its own row.
void Combine::return_weights() const {
  const auto num_topk = static_cast<std::size_t>(request_.out_weights->size(1));
  const plan::RouteTable& rows = route();
  auto* out = request_.out_weights->data_as<float>();
  std::fill_n(out, request_.out_weights->num_elements(), 0.0F);
  for (std::size_t token = 0; token < static_cast<std::size_t>(rows.num_tokens()); ++token, out += num_topk) {
    for (auto i = static_cast<std::size_t>(rows.begin[token]); i < static_cast<std::size_t>(rows.begin[token + 1]);
         ++i) {
      const std::byte* base = group_.windows.data(rows.rank[i]) + contribution(rows.rank[i]).weights_offset;
      const float weight = reinterpret_cast<const float*>(base)[rows.row[i]];
      out[rows.column[i]] = with_canonical_nan(0.0F + weight);
    }
  }
}

void Combine::reduce_rows() const {
  const auto num_ranks = static_cast<std::size_t>(group_.num_ranks());
  std::vector<const std::byte*> sources(num_ranks);
  std::vector<std::size_t> strides(num_ranks);
  for (std::size_t rank = 0; rank < num_ranks; ++rank) {
    const int r = static_cast<int>(rank);
    const Contribution& a = contribution(r);
    strides[rank] = a.x_stride;
    sources[rank] = group_.windows.data(r) + a.x_offset +
                    static_cast<std::size_t>(request_.handle->first_row(group_.rank(), r)) * a.x_stride;
  }
  ReduceArgs args;
  args.route = &route();
  args.sources = sources.data();
  args.source_strides = strides.data();
  if (request_.bias_0) {
    args.bias_0 = request_.bias_0->data_as<std::byte>();
    args.bias_0_stride = row_stride_bytes(*request_.bias_0);
  }
  if (request_.bias_1) {
    args.bias_1 = request_.bias_1->data_as<std::byte>();
    args.bias_1_stride = row_stride_bytes(*request_.bias_1);
  }
  args.out = request_.out.data_as<std::byte>();
  args.hidden = static_cast<std::size_t>(request_.out.size(1));
  args.stores = stores_for(request_.out.num_bytes());
  if (request_.x.dtype() == DataType::kBfloat16) {
    reduce_rows_bfloat16(args);
  } else {
    reduce_rows_float32(args);
  }
}

void Combine::reduce_weights() const {
  const auto num_topk = static_cast<std::size_t>(request_.topk_weights->size(1));
  const plan::RouteTable& rows = route();
  std::vector<const float*> sources(static_cast<std::size_t>(group_.num_ranks()));
  for (int r = 0; r < group_.num_ranks(); ++r) {
    const std::byte* base = group_.windows.data(r) + contribution(r).weights_offset;
    sources[static_cast<std::size_t>(r)] =
        reinterpret_cast<const float*>(base) +
        static_cast<std::size_t>(request_.handle->counts.row_begin(group_.rank(), r)) * num_topk;
  }
  auto* out = request_.out_weights->data_as<float>();
  for (std::size_t token = 0; token < static_cast<std::size_t>(rows.num_tokens()); ++token, out += num_topk) {
    std::memset(out, 0, num_topk * sizeof(float));
    for (auto i = static_cast<std::size_t>(rows.begin[token]); i < static_cast<std::size_t>(rows.begin[token + 1]);
         ++i) {
      const float* from =
          sources[static_cast<std::size_t>(rows.rank[i])] + static_cast<std::size_t>(rows.row[i]) * num_topk;
      for (std::size_t k = 0; k < num_topk; ++k) out[k] += from[k];
    }
    for (std::size_t k = 0; k < num_topk; ++k) out[k] = with_canonical_nan(out[k]);
  }
}

}  // namespace crossdock::host
