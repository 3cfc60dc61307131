#include "backend/host/low_latency_dispatch.hpp"

#include <algorithm>
#include <array>

#include "backend/host/low_latency_kernels.hpp"
#include "base/error.hpp"
#include "codec/float8.hpp"

namespace crossdock::host {

namespace {

constexpr std::string_view kName = "low_latency_dispatch";

template <class Id>
std::vector<std::int32_t> copy_ids(const Tensor& topk_idx) {
  const auto* ids = topk_idx.data_as<Id>();
  std::vector<std::int32_t> result(static_cast<std::size_t>(topk_idx.num_elements()));
  std::transform(ids, ids + result.size(), result.begin(), [](Id id) { return static_cast<std::int32_t>(id); });
  return result;
}

}  // namespace

LowLatencyDispatch::LowLatencyDispatch(std::shared_ptr<Group> group, const backend::LowLatencyDispatchRequest& request)
    : group_(std::move(group)),
      request_(request),
      handle_(*request_.handle),
      experts_(handle_.num_experts, group_->num_ranks()),
      expert_of_(request_.topk_idx.dtype() == DataType::kInt64 ? copy_ids<std::int64_t>(request_.topk_idx)
                                                               : copy_ids<std::int32_t>(request_.topk_idx)),
      num_for_(static_cast<std::size_t>(handle_.num_experts)) {
  for (const std::int32_t expert : expert_of_) {
    if (expert >= 0) ++num_for_[static_cast<std::size_t>(expert)];
  }
}

std::int64_t LowLatencyDispatch::scale_columns() const noexcept {
  if (!is_float8()) return 0;
  const std::int64_t groups = codec::num_groups(handle_.hidden);
  return request_.format == RowFormat::kFloat8Ue8m0 ? codec::num_packed_scales(groups) : groups;
}

std::size_t LowLatencyDispatch::row_bytes() const noexcept {
  return static_cast<std::size_t>(handle_.hidden) * (is_float8() ? 1 : sizeof(Bfloat16));
}

void LowLatencyDispatch::send(const Deadline& deadline) {
  group_->signals.open_epoch(request_.epoch, kName, deadline);
  try {
    allocate();
  } catch (const Error& error) {
    throw group_->refuse_as(kName, request_.epoch, error, deadline);
  }
  announce();
  agree(deadline);
  write_ranges();
  assign_places();
  send_rows();
  group_->signals.signal(Phase::kSend, request_.epoch);
}

void LowLatencyDispatch::receive(const Deadline& deadline) {
  group_->signals.wait_all(Phase::kSend, request_.epoch, kName, deadline);
  group_->signals.retire(request_.epoch);
}

void LowLatencyDispatch::allocate() {
  const std::int64_t local = experts_.count(group_->rank());
  const std::int64_t places = places_per_expert();
  result_.x = group_->allocate(is_float8() ? DataType::kFloat8E4m3 : DataType::kBfloat16,
                               std::array{local, places, handle_.hidden});
  handle_.count = group_->allocate(DataType::kInt32, std::array{local});
  handle_.src_info = group_->allocate(DataType::kInt32, std::array{local, places});
  handle_.layout_range = group_->allocate(DataType::kInt64, std::array{local, std::int64_t{group_->num_ranks()}});
  if (!is_float8()) return;
  const DataType dtype = request_.format == RowFormat::kFloat8Ue8m0 ? DataType::kInt32 : DataType::kFloat32;
  scales_ = group_->allocate(dtype, std::array{local, scale_columns(), places});
  result_.scales = Tensor::own(scales_.owner(), scales_.data(), dtype, std::array{local, places, scale_columns()})
                       .with_strides({scale_columns() * places, 1, places});
}

void LowLatencyDispatch::announce() {
  Slot& slot = group_->own_slot(request_.epoch);
  Announcement& a = slot.announcement = Announcement{};
  a.kind = OperationKind::kLowLatencyDispatch;
  a.dtype = static_cast<std::uint32_t>(request_.x.dtype());
  a.hidden = handle_.hidden;
  a.num_topk = handle_.num_topk;
  a.topk_dtype = static_cast<std::uint32_t>(request_.topk_idx.dtype());
  a.num_experts = handle_.num_experts;
  a.max_tokens = handle_.max_tokens;
  a.row_format = static_cast<std::uint32_t>(request_.format);
  a.num_tokens = handle_.num_tokens;
  std::ranges::copy(num_for_, group_->windows.layout.expert_counts(slot).begin());
  slot.placement = Placement{};
  slot.placement.x = group_->offset_of(result_.x);
  slot.placement.src_idx = group_->offset_of(handle_.src_info);
  if (is_float8()) slot.placement.scales = group_->offset_of(scales_);
  group_->signals.signal(Phase::kAnnounce, request_.epoch);
}

void LowLatencyDispatch::agree(const Deadline& deadline) { group_->await_agreement(request_.epoch, kName, deadline); }

void LowLatencyDispatch::write_ranges() {
  const int begin = experts_.begin(group_->rank());
  auto* count = handle_.count.data_as<std::int32_t>();
  auto* range = handle_.layout_range.data_as<std::int64_t>();
  for (int e = 0; e < experts_.count(group_->rank()); ++e) {
    std::int64_t rows = 0;
    for (int src = 0; src < group_->num_ranks(); ++src) {
      const auto counts = group_->windows.layout.expert_counts(group_->windows.slot(src, request_.epoch));
      const std::int64_t from_src = counts[static_cast<std::size_t>(begin) + static_cast<std::size_t>(e)];
      *range++ = rows << 32U | from_src;
      rows += from_src;
    }
    count[e] = static_cast<std::int32_t>(rows);
    if (request_.statistics) request_.statistics->data_as<std::int32_t>()[e] += count[e];
  }
}

void LowLatencyDispatch::assign_places() {
  // The first free place of each expert for this rank: after the rows of the ranks before it.
  std::vector<std::int64_t> next(num_for_.size());
  for (int src = 0; src < group_->rank(); ++src) {
    const auto counts = group_->windows.layout.expert_counts(group_->windows.slot(src, request_.epoch));
    for (std::size_t e = 0; e < next.size(); ++e) next[e] += counts[e];
  }
  handle_.owner.assign(expert_of_.size(), -1);
  handle_.place.assign(expert_of_.size(), -1);
  for (std::size_t i = 0; i < expert_of_.size(); ++i) {
    const std::int32_t expert = expert_of_[i];
    if (expert < 0) continue;
    const int owner = experts_.owner(expert);
    handle_.owner[i] = owner;
    handle_.place[i] =
        (expert - experts_.begin(owner)) * places_per_expert() + next[static_cast<std::size_t>(expert)]++;
  }
}

void LowLatencyDispatch::send_rows() {
  const auto num_topk = static_cast<std::size_t>(handle_.num_topk);
  const auto hidden = static_cast<std::size_t>(handle_.hidden);
  const auto stride = static_cast<std::size_t>(request_.x.stride(0));
  const Stores stores = stores_for(expert_of_.size() * row_bytes());
  const auto rounding =
      request_.format == RowFormat::kFloat8 ? codec::ScaleRounding::kNone : codec::ScaleRounding::kPowerOfTwo;
  std::vector<std::byte*> destinations(num_topk);
  std::vector<std::uint8_t> values(is_float8() ? hidden : 0);
  std::vector<float> scales(is_float8() ? static_cast<std::size_t>(codec::num_groups(handle_.hidden)) : 0);

  for (std::int64_t token = 0; token < handle_.num_tokens; ++token) {
    std::size_t count = 0;
    for (std::size_t i = static_cast<std::size_t>(token) * num_topk; i < static_cast<std::size_t>(token + 1) * num_topk;
         ++i) {
      if (handle_.owner[i] < 0) continue;
      const Slot& slot = group_->windows.slot(handle_.owner[i], request_.epoch);
      std::byte* const window = group_->windows.data(handle_.owner[i]);
      destinations[count++] = window + slot.placement.x + static_cast<std::size_t>(handle_.place[i]) * row_bytes();
      reinterpret_cast<std::int32_t*>(window + slot.placement.src_idx)[handle_.place[i]] =
          static_cast<std::int32_t>(token);
    }
    if (count == 0) continue;
    const auto* row = request_.x.data_as<Bfloat16>() + static_cast<std::size_t>(token) * stride;
    const std::byte* source = reinterpret_cast<const std::byte*>(row);
    if (is_float8()) {
      quantize_row(row, hidden, rounding, values.data(), scales.data());
      source = reinterpret_cast<const std::byte*>(values.data());
      send_scales(scales, token);
    }
    multicast_row(source, row_bytes(), {destinations.data(), count}, stores);
  }
  if (stores == Stores::kStreaming) flush_streaming_stores();
}

void LowLatencyDispatch::send_scales(std::span<const float> scales, std::int64_t token) const {
  std::array<std::int32_t, 64> packed_few{};
  std::vector<std::int32_t> packed_many;
  const std::byte* source = reinterpret_cast<const std::byte*>(scales.data());
  const auto columns = static_cast<std::size_t>(scale_columns());
  if (request_.format == RowFormat::kFloat8Ue8m0) {
    std::span<std::int32_t> packed(packed_few.data(), std::min(columns, packed_few.size()));
    if (columns > packed_few.size()) {
      packed_many.resize(columns);
      packed = packed_many;
    }
    codec::pack_ue8m0(scales, packed);
    source = reinterpret_cast<const std::byte*>(packed.data());
  }
  constexpr std::size_t kElement = 4;  // of float32 as of int32
  const std::int64_t places = places_per_expert();
  const auto first = static_cast<std::size_t>(token) * static_cast<std::size_t>(handle_.num_topk);
  for (std::size_t i = first; i < first + static_cast<std::size_t>(handle_.num_topk); ++i) {
    if (handle_.owner[i] < 0) continue;
    const std::int64_t expert = handle_.place[i] / places;
    const std::int64_t place = handle_.place[i] % places;
    std::byte* to = group_->windows.data(handle_.owner[i]) +
                    group_->windows.slot(handle_.owner[i], request_.epoch).placement.scales +
                    static_cast<std::size_t>(expert * scale_columns() * places + place) * kElement;
    for (std::size_t c = 0; c < columns; ++c) {
      std::copy_n(source + c * kElement, kElement, to + c * static_cast<std::size_t>(places) * kElement);
    }
  }
}

}  // namespace crossdock::host
