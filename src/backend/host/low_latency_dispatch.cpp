#include "backend/host/low_latency_dispatch.hpp"

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstring>
#include <numeric>

#include "backend/host/low_latency_kernels.hpp"
#include "backend/host/low_latency_records.hpp"
#include "base/error.hpp"
#include "codec/float8.hpp"

namespace crossdock::host {

namespace {

constexpr std::string_view kName = "low_latency_dispatch";
constexpr std::size_t kScaleElement = 4;  ///< bytes of a float32, and of an int32 with four UE8M0 scales

template <class Id>
void copy_ids(const Tensor& topk_idx, std::span<std::int32_t> to) {
  const auto* ids = topk_idx.data_as<Id>();
  std::transform(ids, ids + to.size(), to.begin(), [](Id id) { return static_cast<std::int32_t>(id); });
}

}  // namespace

LowLatencyDispatch::LowLatencyDispatch(std::shared_ptr<Group> group, backend::LowLatencyDispatchRequest request)
    : group_(std::move(group)),
      request_(std::move(request)),
      handle_(*request_.handle),
      experts_(handle_.num_experts, group_->num_ranks()),
      scratch_(scratch_bytes_.data(), scratch_bytes_.size(), group_->recycler.get()),
      expert_of_(static_cast<std::size_t>(request_.topk_idx.num_elements()), &scratch_),
      num_for_(static_cast<std::size_t>(handle_.num_experts), &scratch_),
      num_to_(static_cast<std::size_t>(group_->num_ranks()), &scratch_),
      parcels_(&scratch_) {
  if (request_.topk_idx.dtype() == DataType::kInt64) {
    copy_ids<std::int64_t>(request_.topk_idx, expert_of_);
  } else {
    copy_ids<std::int32_t>(request_.topk_idx, expert_of_);
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

std::size_t LowLatencyDispatch::scale_bytes() const noexcept {
  return static_cast<std::size_t>(scale_columns()) * kScaleElement;
}

const std::byte* LowLatencyDispatch::x_row(std::int64_t token) const noexcept {
  return reinterpret_cast<const std::byte*>(request_.x.data_as<Bfloat16>() + token * request_.x.stride(0));
}

bool LowLatencyDispatch::is_read_from_parcel(std::int32_t expert) const noexcept {
  return expert >= 0 && !(reads_own_rows_from_x() && experts_.owner(expert) == group_->rank());
}

void LowLatencyDispatch::send(const Deadline& deadline) {
  group_->open_epoch(request_.epoch, kName, deadline);
  count_selections();
  try {
    allocate();
  } catch (const Error& error) {
    throw group_->refuse_as(kName, request_.epoch, error, deadline);
  }
  stage_rows();  // first, so that streaming stores drain while the rest is done
  stage_entries();
  announce();
  flush_streaming_stores();
  group_->signals.signal(Phase::kAnnounce, request_.epoch);
  group_->staged_slabs.keep(request_.epoch, parcel_);
}

void LowLatencyDispatch::receive(const Deadline& deadline) {
  group_->await_agreement(request_.epoch, kName, deadline, wait_costs_of(request_.wait_costs));
  take_counts();
  group_->signals.check_records(request_.epoch, kName);
  count_received();
  fetch_rows();
  group_->signals.check_records(request_.epoch, kName);
  handle_.is_received = true;
  group_->signals.retire(request_.epoch);
}

void LowLatencyDispatch::count_selections() {
  for (const std::int32_t expert : expert_of_) {
    if (expert >= 0) ++num_for_[static_cast<std::size_t>(expert)];
  }
  for (int rank = 0; rank < group_->num_ranks(); ++rank) {
    const auto first = num_for_.begin() + experts_.begin(rank);
    num_to_[static_cast<std::size_t>(rank)] = std::accumulate(first, first + experts_.count(rank), 0);
  }
}

void LowLatencyDispatch::allocate() {
  const std::int64_t local = experts_.count(group_->rank());
  const std::int64_t places = places_per_expert();

  const ParcelLayout parcel(handle_.num_tokens, row_bytes(), scale_bytes());
  const auto num_entries = static_cast<std::size_t>(std::accumulate(num_to_.begin(), num_to_.end(), std::int64_t{0}));
  const DataType scale_dtype = request_.format == RowFormat::kFloat8Ue8m0 ? DataType::kInt32 : DataType::kFloat32;

  const std::array x_shape{local, places, handle_.hidden};
  const std::array records_shape{static_cast<std::int64_t>(RecordsLayout(local, group_->num_ranks(), places).bytes())};
  const std::array parcel_shape{static_cast<std::int64_t>(parcel.bytes(num_entries))};
  const std::array scales_shape{local, scale_columns(), places};
  const std::array wanted{
      WantedTensor{&result_.x, is_float8() ? DataType::kFloat8E4m3 : DataType::kBfloat16, x_shape},
      WantedTensor{&records_, DataType::kUint8, records_shape},
      WantedTensor{&parcel_, DataType::kUint8, parcel_shape, SlabUse::kStaged},
      WantedTensor{&scales_, scale_dtype, scales_shape},  // without columns it takes no room
  };
  group_->allocate(wanted);
  take_records(local, places);
  if (!is_float8()) return;
  result_.scales = Tensor::own(scales_.owner(), scales_.data(), scale_dtype, std::array{local, places, scale_columns()})
                       .with_strides({scale_columns() * places, 1, places});
}

void LowLatencyDispatch::take_records(std::int64_t local, std::int64_t places) {
  const RecordsLayout layout(local, group_->num_ranks(), places);
  const auto part = [&](DataType dtype, std::size_t offset, std::span<const std::int64_t> shape) {
    return Tensor::own(records_.owner(), records_.data_as<std::byte>() + offset, dtype, shape);
  };
  handle_.count = part(DataType::kInt32, layout.count(), std::array{local});
  handle_.layout_range =
      part(DataType::kInt64, layout.layout_range(), std::array{local, std::int64_t{group_->num_ranks()}});
  handle_.src_info = part(DataType::kInt32, layout.src_info(), std::array{local, places});
}

void LowLatencyDispatch::announce() const {
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
  a.x_offset = group_->offset_of(parcel_);
  std::ranges::copy(num_to_, group_->windows.layout.rank_counts(slot).begin());
  std::ranges::copy(num_for_, group_->windows.layout.expert_counts(slot).begin());
}

void LowLatencyDispatch::stage_entries() {
  std::pmr::vector<std::size_t> next(num_to_.size(), &scratch_);
  std::exclusive_scan(num_to_.begin(), num_to_.end(), next.begin(), std::size_t{0});
  const ParcelLayout parcel(handle_.num_tokens, row_bytes(), scale_bytes());
  auto* entries = reinterpret_cast<ParcelEntry*>(parcel_.data_as<std::byte>() + parcel.entry(0));
  for (std::size_t i = 0; i < expert_of_.size(); ++i) {
    if (expert_of_[i] < 0) continue;
    const int owner = experts_.owner(expert_of_[i]);
    entries[next[static_cast<std::size_t>(owner)]++] = {
        static_cast<std::int32_t>(i / static_cast<std::size_t>(handle_.num_topk)),
        expert_of_[i] - experts_.begin(owner)};
  }
}

template <class Stage>
void LowLatencyDispatch::stage_each_token(Stage stage) const {
  const ParcelLayout parcel(handle_.num_tokens, row_bytes(), scale_bytes());
  const auto num_topk = static_cast<std::size_t>(handle_.num_topk);
  for (std::int64_t token = 0; token < handle_.num_tokens; ++token) {
    const auto ids = std::span(expert_of_).subspan(static_cast<std::size_t>(token) * num_topk, num_topk);
    if (std::ranges::none_of(ids, [&](std::int32_t id) { return is_read_from_parcel(id); })) continue;
    stage(token, parcel_.data_as<std::byte>() + parcel.row(token), parcel_.data_as<std::byte>() + parcel.scales(token));
  }
}

void LowLatencyDispatch::stage_rows() {
  const std::size_t bytes = static_cast<std::size_t>(handle_.num_tokens) * row_bytes();
  if (is_float8()) return stage_float8_rows(stores_for(bytes));
  const Stores stores = group_->dispatch_stores.choose(bytes);
  const auto begin = std::chrono::steady_clock::now();
  std::size_t stored = 0;
  stage_each_token([&](std::int64_t token, std::byte* to, std::byte* /*scales*/) {
    copy_bytes(x_row(token), row_bytes(), to, stores);
    stored += row_bytes();
  });
  if (stores == Stores::kStreaming || stored == 0) return;
  group_->dispatch_stores.note(bytes, stored, std::chrono::steady_clock::now() - begin);
}

void LowLatencyDispatch::stage_float8_rows(Stores stores) {
  const auto hidden = static_cast<std::size_t>(handle_.hidden);
  const bool is_packed = request_.format == RowFormat::kFloat8Ue8m0;
  const auto rounding =
      request_.format == RowFormat::kFloat8 ? codec::ScaleRounding::kNone : codec::ScaleRounding::kPowerOfTwo;
  std::pmr::vector<std::uint8_t> row(row_bytes(), group_->recycler.get());
  std::pmr::vector<float> scales(static_cast<std::size_t>(codec::num_groups(handle_.hidden)), group_->recycler.get());
  stage_each_token([&](std::int64_t token, std::byte* to, std::byte* staged_scales) {
    quantize_row(reinterpret_cast<const Bfloat16*>(x_row(token)), hidden, rounding, row.data(),
                 is_packed ? scales.data() : reinterpret_cast<float*>(staged_scales));
    if (is_packed) {
      codec::pack_ue8m0(scales,
                        {reinterpret_cast<std::int32_t*>(staged_scales), static_cast<std::size_t>(scale_columns())});
    }
    copy_bytes(reinterpret_cast<const std::byte*>(row.data()), row.size(), to, stores);
  });
}

void LowLatencyDispatch::take_counts() {
  const int num_ranks = group_->num_ranks();
  const auto num_experts = num_for_.size();
  // Rows of each expert that come from the ranks before this one, and from all.
  std::pmr::vector<std::int32_t> before(num_experts, &scratch_);
  std::pmr::vector<std::int32_t> all(num_experts, &scratch_);
  const auto begin = static_cast<std::size_t>(experts_.begin(group_->rank()));
  const auto local = static_cast<std::size_t>(experts_.count(group_->rank()));
  auto* range = handle_.layout_range.data_as<std::int64_t>();
  parcels_.reserve(static_cast<std::size_t>(num_ranks));
  for (int src = 0; src < num_ranks; ++src) {
    Slot& slot = group_->windows.slot(src, request_.epoch);
    const std::int32_t* const counts = group_->windows.layout.expert_counts(slot).data();
    if (src == group_->rank()) std::ranges::copy(all, before.begin());
    const bool is_excluded = group_->signals.is_excluded(src, request_.epoch);
    for (std::size_t e = 0; e < local; ++e) {
      range[e * static_cast<std::size_t>(num_ranks) + static_cast<std::size_t>(src)] =
          std::int64_t{all[begin + e]} << 32U | std::int64_t{is_excluded ? 0 : counts[begin + e]};
    }
    parcels_.emplace_back();
    if (is_excluded) continue;
    const auto rows = group_->windows.layout.rank_counts(slot);
    parcels_.back() = {true, slot.announcement.x_offset, slot.announcement.num_tokens,
                       std::accumulate(rows.begin(), rows.begin() + group_->rank(), std::int64_t{0}),
                       rows[static_cast<std::size_t>(group_->rank())]};
    for (std::size_t e = 0; e < num_experts; ++e) all[e] += counts[e];
  }
  std::copy_n(all.begin() + static_cast<std::ptrdiff_t>(begin), local, handle_.count.data_as<std::int32_t>());
  // From here on `all` is where each expert begins among the used rows of its owner.
  for (int rank = 0; rank < num_ranks; ++rank) {
    const auto first = all.begin() + experts_.begin(rank);
    std::exclusive_scan(first, first + experts_.count(rank), first, 0);
  }
  find_places(before, all);
}

void LowLatencyDispatch::find_places(std::span<std::int32_t> next, std::span<const std::int32_t> begins) {
  handle_.places.assign(expert_of_.size(), {});
  for (std::size_t i = 0; i < expert_of_.size(); ++i) {
    if (expert_of_[i] < 0) continue;
    const auto expert = static_cast<std::size_t>(expert_of_[i]);
    const int owner = experts_.owner(expert_of_[i]);
    if (!parcels_[static_cast<std::size_t>(owner)].takes_part) continue;
    const std::int32_t row = next[expert]++;
    handle_.places[i] = {owner, begins[expert] + row,
                         (expert_of_[i] - experts_.begin(owner)) * places_per_expert() + row};
  }
}

void LowLatencyDispatch::count_received() const {
  if (!request_.statistics) return;
  const auto* count = handle_.count.data_as<std::int32_t>();
  for (std::int64_t e = 0; e < request_.statistics->size(0); ++e) {
    // Operations in flight may share the statistics.
    std::atomic_ref(request_.statistics->data_as<std::int32_t>()[e]).fetch_add(count[e], std::memory_order_relaxed);
  }
}

void LowLatencyDispatch::fetch_rows() {
  const auto local = static_cast<std::size_t>(experts_.count(group_->rank()));
  const auto* count = handle_.count.data_as<std::int32_t>();
  const std::size_t bytes =
      static_cast<std::size_t>(std::accumulate(count, count + local, std::int64_t{0})) * row_bytes();
  // The rows are for this rank alone, so that stores to them are quick while its caches hold them, and those of the
  // ranks that share its core.
  const auto sharing =
      static_cast<std::size_t>((group_->num_ranks() + group_->windows.usable_cores - 1) / group_->windows.usable_cores);
  const bool is_large = is_large_batch(bytes * sharing);
  const Stores stores = is_large ? group_->fetch_stores.choose(bytes * sharing) : Stores::kCached;
  const auto begin = std::chrono::steady_clock::now();
  std::pmr::vector<std::int64_t> next(local, &scratch_);
  for (std::size_t e = 0; e < local; ++e) next[e] = static_cast<std::int64_t>(e) * places_per_expert();
  for (int src = 0; src < group_->num_ranks(); ++src) {
    if (parcels_[static_cast<std::size_t>(src)].num_rows > 0) fetch_from(src, next, stores);
  }
  if (stores == Stores::kStreaming) {
    flush_streaming_stores();
  } else if (is_large) {
    group_->fetch_stores.note(bytes * sharing, bytes, std::chrono::steady_clock::now() - begin);
  }
}

void LowLatencyDispatch::fetch_from(int source, std::span<std::int64_t> next, Stores stores) const {
  const Parcel& from = parcels_[static_cast<std::size_t>(source)];
  const std::byte* const parcel = group_->windows.data(source) + from.offset;
  const bool is_from_x = source == group_->rank() && reads_own_rows_from_x();
  const ParcelLayout layout(from.num_tokens, row_bytes(), scale_bytes());
  const std::span entries(
      reinterpret_cast<const ParcelEntry*>(parcel + layout.entry(static_cast<std::size_t>(from.first_row))),
      static_cast<std::size_t>(from.num_rows));

  constexpr std::size_t kMaxFanout = 16;
  std::array<std::byte*, kMaxFanout> destinations;
  auto* src_info = handle_.src_info.data_as<std::int32_t>();
  for (std::size_t i = 0; i < entries.size();) {
    const std::int32_t token = entries[i].token;
    // If the others went on without this rank, which check_records() will say, other rows may lie here by now.
    if (token < 0 || token >= from.num_tokens) return;
    std::size_t fanout = 0;
    for (; i < entries.size() && entries[i].token == token && fanout < kMaxFanout; ++i) {
      if (!has_room(entries[i].expert, next)) return;
      const std::int64_t place = next[static_cast<std::size_t>(entries[i].expert)]++;
      destinations[fanout++] = result_.x.data_as<std::byte>() + static_cast<std::size_t>(place) * row_bytes();
      src_info[place] = token;
      if (is_float8()) store_scales(parcel + layout.scales(token), place);
    }
    const std::byte* row = is_from_x ? x_row(token) : parcel + layout.row(token);
    multicast_row(row, row_bytes(), {destinations.data(), fanout}, stores);
  }
}

bool LowLatencyDispatch::has_room(std::int32_t expert, std::span<const std::int64_t> next) const noexcept {
  return expert >= 0 && static_cast<std::size_t>(expert) < next.size() &&
         next[static_cast<std::size_t>(expert)] < (expert + 1) * places_per_expert();
}

void LowLatencyDispatch::store_scales(const std::byte* scales, std::int64_t place) const {
  const std::int64_t places = places_per_expert();
  const std::int64_t columns = scale_columns();
  std::byte* to = scales_.data_as<std::byte>() +
                  static_cast<std::size_t>(place / places * columns * places + place % places) * kScaleElement;
  for (std::int64_t c = 0; c < columns; ++c) {
    std::memcpy(to, scales + static_cast<std::size_t>(c) * kScaleElement, kScaleElement);
    to += static_cast<std::size_t>(places) * kScaleElement;
  }
}

}  // namespace crossdock::host
