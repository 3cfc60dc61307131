#include "backend/host/low_latency_combine.hpp"

#include <algorithm>
#include <array>
#include <chrono>
#include <memory_resource>
#include <numeric>
#include <optional>
#include <vector>

#include "backend/host/logfmt_kernels.hpp"
#include "backend/host/low_latency_kernels.hpp"
#include "backend/host/low_latency_logfmt.hpp"
#include "base/error.hpp"

namespace crossdock::host {

namespace {

constexpr std::string_view kName = "low_latency_combine";

/// Whether what the others read had better not be what experts write. Where a store to a line that another core has
/// read is slow, a copy costs less than the experts' next stores would (docs/performance.md). With a core for each rank
/// that holds for small batches wherever they may stream; else if such stores are slow now, as dispatches find.
bool is_better_staged(const Group& group, std::size_t bytes) {
  constexpr std::size_t kMostStaged = 8 * kMostCoreKeeps;  // what the size hint has room for
  if (bytes > kMostStaged || stores_for(std::min(bytes, kMostCoreKeeps)) == Stores::kCached) return false;
  const bool has_core_for_each = group.num_ranks() <= group.windows.usable_cores;
  return (has_core_for_each && !is_large_batch(bytes)) || group.dispatch_stores.are_slow();
}

}  // namespace

void LowLatencyCombine::send(const Deadline& deadline) {
  group_->open_epoch(request_.epoch, kName, deadline);
  try {
    x_ = stage();
  } catch (const Error& error) {
    throw group_->refuse_as(kName, request_.epoch, error, deadline);
  }
  Announcement& a = group_->own_slot(request_.epoch).announcement = Announcement{};
  a.kind = OperationKind::kLowLatencyCombine;
  a.dtype = static_cast<std::uint32_t>(request_.x.dtype());
  a.hidden = request_.handle->hidden;
  a.num_topk = request_.handle->num_topk;
  a.handle_epoch = request_.handle->epoch;
  a.num_tokens = request_.handle->num_tokens;
  a.row_format = request_.use_logfmt ? 1 : 0;
  a.x_offset = group_->offset_of(x_);
  a.is_packed = is_packed_ ? 1 : 0;
  group_->signals.signal(Phase::kAnnounce, request_.epoch);
  if (!is_shared_with_caller()) group_->staged_slabs.keep(request_.epoch, x_);
}

void LowLatencyCombine::receive(const Deadline& deadline) {
  try {
    receive_rows(deadline);
  } catch (const Error& error) {
    // Masked meanwhile: those who count on this rank's rows still read them.
    const bool is_masked = error.code() == ErrorCode::kState && !group_->signals.is_broken();
    if (is_masked && is_shared_with_caller()) group_->await_readers(request_.epoch, deadline);
    throw;
  }
}

void LowLatencyCombine::receive_rows(const Deadline& deadline) {
  group_->await_agreement(request_.epoch, kName, deadline, wait_costs_of(request_.wait_costs));
  find_sources();
  reduce();
  group_->signals.check_records(request_.epoch, kName);
  group_->signals.signal(Phase::kDone, request_.epoch);
  if (is_shared_with_caller())
    group_->signals.wait_all(Phase::kDone, request_.epoch, kName, deadline, wait_costs_of(request_.wait_costs));
  group_->signals.retire(request_.epoch);
}

void LowLatencyCombine::abandon() noexcept {
  try {
    group_->signals.signal(Phase::kDone, request_.epoch);  // others may wait for it
    group_->signals.retire(request_.epoch);
  } catch (const Error&) {  // the others have given this rank up
    return;
  }
}

void LowLatencyCombine::find_sources() {
  sources_.reserve(static_cast<std::size_t>(group_->num_ranks()));
  for (int rank = 0; rank < group_->num_ranks(); ++rank) {
    sources_.emplace_back();
    if (group_->signals.is_excluded(rank, request_.epoch)) continue;
    const Announcement& a = group_->windows.slot(rank, request_.epoch).announcement;
    sources_.back() = {group_->windows.data(rank) + a.x_offset, a.is_packed != 0};
  }
  group_->signals.check_records(request_.epoch, kName);
}

Tensor LowLatencyCombine::stage() {
  const auto* count = request_.handle->count.data_as<std::int32_t>();
  const std::int64_t rows = std::accumulate(count, count + request_.x.size(0), std::int64_t{0});
  if (request_.use_logfmt) return stage_logfmt(rows);
  const std::array shape{rows, request_.x.size(2)};
  std::optional<Tensor> staged;
  if (group_->arena->offset_of(request_.x.data(), request_.x.num_bytes())) {
    if (is_better_staged(*group_, Arena::slab_bytes(DataType::kBfloat16, shape))) {
      staged = group_->try_allocate(DataType::kBfloat16, shape, SlabUse::kStaged);
    }
    if (!staged) return request_.x;
  } else {
    staged = group_->allocate(DataType::kBfloat16, shape, SlabUse::kStaged);
  }
  is_packed_ = true;
  copy_used_rows(*staged);
  return *staged;
}

Tensor LowLatencyCombine::stage_logfmt(std::int64_t rows) {
  const std::int64_t hidden = request_.handle->hidden;
  const auto stride = static_cast<std::int64_t>(logfmt_stride(hidden));
  Tensor staged = group_->allocate(DataType::kUint8, std::array{rows, stride}, SlabUse::kStaged);
  is_packed_ = true;
  const auto* count = request_.handle->count.data_as<std::int32_t>();
  std::byte* to = staged.data_as<std::byte>();
  LogFmtStager stager(hidden, stores_for(staged.num_bytes()), *group_->recycler);
  for (std::int64_t e = 0; e < request_.x.size(0); ++e) {
    const auto used = static_cast<std::size_t>(count[e]);
    stager.stage(reinterpret_cast<const Bfloat16*>(x_row(e * request_.x.size(1))), used, to);
    to += used * static_cast<std::size_t>(stride);
  }
  stager.finish();
  return staged;
}

void LowLatencyCombine::copy_used_rows(const Tensor& staged) const {
  const LowLatencyHandle::State& handle = *request_.handle;
  const std::size_t row_bytes = static_cast<std::size_t>(handle.hidden) * sizeof(Bfloat16);
  const Stores stores = group_->combine_stores.choose(staged.num_bytes());
  const auto start = std::chrono::steady_clock::now();
  std::size_t stored = 0;
  const auto* count = handle.count.data_as<std::int32_t>();
  std::byte* to = staged.data_as<std::byte>();
  for (std::int64_t e = 0; e < request_.x.size(0); ++e) {
    const std::byte* from = x_row(e * request_.x.size(1));
    for (int source = 0; source < group_->num_ranks(); ++source) {
      if (source == group_->rank() && request_.x_stays()) continue;
      const std::int64_t range = handle.layout_range.data_as<std::int64_t>()[e * group_->num_ranks() + source];
      const std::size_t begin = static_cast<std::size_t>(range >> 32U) * row_bytes;
      const std::size_t bytes = static_cast<std::size_t>(range & 0xFFFFFFFF) * row_bytes;
      copy_bytes(from + begin, bytes, to + begin, stores);
      stored += bytes;
    }
    to += static_cast<std::size_t>(count[e]) * row_bytes;
  }
  if (stores == Stores::kStreaming) {
    flush_streaming_stores();
  } else if (stored > 0) {
    group_->combine_stores.note(staged.num_bytes(), stored, std::chrono::steady_clock::now() - start);
  }
}

const std::byte* LowLatencyCombine::x_row(std::int64_t row) const noexcept {
  return reinterpret_cast<const std::byte*>(request_.x.data_as<Bfloat16>() + row * request_.handle->hidden);
}

const std::byte* LowLatencyCombine::row_at(const LowLatencyHandle::State::Place& place) const noexcept {
  if (place.owner == group_->rank() && request_.x_stays() && !request_.use_logfmt) return x_row(place.row);
  const Source& source = sources_[static_cast<std::size_t>(place.owner)];
  const std::int64_t row = source.is_packed ? place.packed_row : place.row;
  return source.x + static_cast<std::size_t>(row) * staged_row_bytes();
}

std::size_t LowLatencyCombine::staged_row_bytes() const noexcept {
  const std::int64_t hidden = request_.handle->hidden;
  return request_.use_logfmt ? logfmt_stride(hidden) : static_cast<std::size_t>(hidden) * sizeof(Bfloat16);
}

void LowLatencyCombine::reduce() {
  const LowLatencyHandle::State& handle = *request_.handle;
  const auto num_topk = static_cast<std::size_t>(handle.num_topk);
  const auto hidden = static_cast<std::size_t>(handle.hidden);
  const std::size_t row_bytes = hidden * sizeof(Bfloat16);
  const auto* weights = request_.topk_weights.data_as<float>();
  std::pmr::vector<WeightedRow> rows(num_topk, &scratch_);
  std::pmr::vector<float> sums(request_.use_logfmt ? logfmt_sum_elements(hidden) : 0, group_->recycler.get());
  for (std::size_t token = 0; token < static_cast<std::size_t>(handle.num_tokens); ++token) {
    std::size_t count = 0;
    for (std::size_t i = token * num_topk; i < (token + 1) * num_topk; ++i) {
      const auto& place = handle.places[i];
      if (place.owner < 0 || sources_[static_cast<std::size_t>(place.owner)].x == nullptr) continue;
      rows[count++] = {row_at(place), weights[i]};
    }
    std::byte* const out = request_.out.data_as<std::byte>() + token * row_bytes;
    if (request_.use_logfmt) {
      sum_weighted_logfmt_rows({rows.data(), count}, hidden, sums, out);
    } else {
      sum_weighted_rows({rows.data(), count}, hidden, out);
    }
  }
}

}  // namespace crossdock::host
