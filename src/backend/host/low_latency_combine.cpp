#include "backend/host/low_latency_combine.hpp"

#include <cstring>
#include <vector>

#include "backend/host/low_latency_kernels.hpp"
#include "base/error.hpp"

namespace crossdock::host {

namespace {

constexpr std::string_view kName = "low_latency_combine";

}  // namespace

void LowLatencyCombine::send(const Deadline& deadline) {
  group_->signals.open_epoch(request_.epoch, kName, deadline);
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
  a.x_offset = group_->offset_of(x_);
  group_->signals.signal(Phase::kAnnounce, request_.epoch);
}

void LowLatencyCombine::receive(const Deadline& deadline) {
  group_->await_agreement(request_.epoch, kName, deadline);
  reduce();
  group_->signals.signal(Phase::kDone, request_.epoch);
  // The rows of this rank may change or go once no one reads them any more.
  group_->signals.wait_all(Phase::kDone, request_.epoch, kName, deadline);
  group_->signals.retire(request_.epoch);
}

void LowLatencyCombine::abandon() noexcept {
  group_->signals.signal(Phase::kDone, request_.epoch);  // the others wait for it
  group_->signals.retire(request_.epoch);
}

Tensor LowLatencyCombine::stage() const {
  if (group_->arena->offset_of(request_.x.data(), request_.x.num_bytes())) return request_.x;
  Tensor staged = group_->allocate(request_.x.dtype(), request_.x.shape());
  const auto* count = request_.handle->count.data_as<std::int32_t>();
  const std::size_t expert_bytes = static_cast<std::size_t>(request_.x.size(1) * request_.x.size(2)) * sizeof(Bfloat16);
  const std::size_t row_bytes = static_cast<std::size_t>(request_.x.size(2)) * sizeof(Bfloat16);
  for (std::size_t e = 0; e < static_cast<std::size_t>(request_.x.size(0)); ++e) {
    std::memcpy(staged.data_as<std::byte>() + e * expert_bytes, request_.x.data_as<std::byte>() + e * expert_bytes,
                static_cast<std::size_t>(count[e]) * row_bytes);
  }
  return staged;
}

void LowLatencyCombine::reduce() const {
  const LowLatencyHandle::State& handle = *request_.handle;
  const auto num_topk = static_cast<std::size_t>(handle.num_topk);
  const auto hidden = static_cast<std::size_t>(handle.hidden);
  const std::size_t row_bytes = hidden * sizeof(Bfloat16);
  const auto* weights = request_.topk_weights.data_as<float>();
  std::vector<WeightedRow> rows(num_topk);
  for (std::size_t token = 0; token < static_cast<std::size_t>(handle.num_tokens); ++token) {
    std::size_t count = 0;
    for (std::size_t i = token * num_topk; i < (token + 1) * num_topk; ++i) {
      const int owner = handle.owner[i];
      if (owner < 0) continue;
      const std::byte* x =
          group_->windows.data(owner) + group_->windows.slot(owner, request_.epoch).announcement.x_offset;
      rows[count++] = {x + static_cast<std::size_t>(handle.place[i]) * row_bytes, weights[i]};
    }
    sum_weighted_rows({rows.data(), count}, hidden, request_.out.data_as<std::byte>() + token * row_bytes);
  }
}

}  // namespace crossdock::host
