#include "backend/host/host_backend.hpp"

#include <fmt/ranges.h>

#include <chrono>
#include <cstring>
#include <thread>

#include "backend/host/agreement.hpp"
#include "backend/host/combine.hpp"
#include "backend/host/dispatch.hpp"
#include "backend/host/low_latency_combine.hpp"
#include "backend/host/low_latency_dispatch.hpp"
#include "backend/host/window_exchange.hpp"
#include "base/error.hpp"

namespace crossdock::host {

namespace {

// An operation's start waits until the one that many epochs before is over.
static_assert(backend::kMostOpenOperations == kNumSlots);

constexpr std::size_t kPageBytes = 4096;  // the arena begins at a multiple of it

/// There was no room for `missing`, one of `tensors`, none of which is alive any more.
Error no_room_error(const Arena& arena, const WantedTensor& missing, std::span<const WantedTensor> tensors) {
  std::size_t enough = arena.bytes_total();
  bool can_be_had = true;
  for (const WantedTensor& wanted : tensors) {
    can_be_had &= !__builtin_add_overflow(enough, Arena::slab_bytes(wanted.dtype, wanted.shape), &enough);
  }
  return make_error(
      ErrorCode::kCapacity, "no room for a tensor {} [{}] in the arena of {} bytes ({} free, {} in one piece); {}",
      name_of(missing.dtype), fmt::join(missing.shape, ", "), arena.bytes_total(), arena.bytes_free(),
      arena.largest_free(),
      can_be_had ? fmt::format("BufferOptions::arena_bytes of {} would do for the tensors that are alive now", enough)
                 : "no arena would do");
}

}  // namespace

Group::Group(Windows all_windows, std::size_t arena_bytes)
    : windows(std::move(all_windows)),
      signals(windows),
      arena(std::make_shared<Arena>(windows.memory[static_cast<std::size_t>(windows.rank)],
                                    windows.layout.arena_offset(), arena_bytes)) {}

std::uint64_t Group::offset_of(const Tensor& tensor) const {
  return *arena->offset_of(tensor.data(), tensor.num_bytes());
}

std::optional<Tensor> Group::try_allocate(DataType dtype, std::span<const std::int64_t> shape, SlabUse use) {
  kept_slabs.release(signals, rank(), num_ranks());
  // So that what is staged stays together, in the room of what was staged before.
  if (use == SlabUse::kStaged) staged_slabs.release_retired(windows);
  if (auto tensor = arena->try_allocate(dtype, shape, use)) return tensor;
  staged_slabs.release_read(signals, rank(), num_ranks());
  return arena->try_allocate(dtype, shape, use);
}

Tensor Group::allocate(DataType dtype, std::span<const std::int64_t> shape, SlabUse use) {
  Tensor tensor;
  const WantedTensor wanted{&tensor, dtype, shape, use};
  allocate(std::span(&wanted, 1));
  return tensor;
}

void Group::allocate(std::span<const WantedTensor> tensors) {
  for (const WantedTensor& wanted : tensors) {
    if (auto tensor = try_allocate(wanted.dtype, wanted.shape, wanted.use)) {
      *wanted.tensor = *std::move(tensor);
      continue;
    }
    for (const WantedTensor& other : tensors) *other.tensor = {};
    throw no_room_error(*arena, wanted, tensors).with_rank(rank());
  }
}

void Group::open_epoch(std::uint64_t epoch, std::string_view operation, const Deadline& deadline) {
  signals.open_epoch(epoch, operation, deadline);
  if (epoch > kNumSlots) staged_slabs.release_until(epoch - kNumSlots);
}

Error Group::refuse_as(std::string_view operation, std::uint64_t epoch, const Error& reason, const Deadline& deadline) {
  Error named(reason.code(), fmt::format("rank {}: {}: {}", rank(), operation, reason.what()), reason.where());
  named.with_rank(rank());
  refuse(epoch, named, deadline);
  return named;
}

void Group::await_agreement(std::uint64_t epoch, std::string_view operation, const Deadline& deadline,
                            WaitCosts costs) {
  signals.wait_all(Phase::kAnnounce, epoch, operation, deadline, costs);
  try {
    check_agreement(windows, signals, epoch, operation);
  } catch (const Error&) {
    signals.retire(epoch);
    signals.check_records(epoch, operation);
    throw;
  }
}

void Group::await_readers(std::uint64_t epoch, const Deadline& deadline) const {
  constexpr std::chrono::milliseconds kPause{1};
  for (int reader = 0; reader < num_ranks(); ++reader) {
    const auto& announced = windows.signal_of(reader, Phase::kAnnounce, epoch);
    const bool reads = reader != rank() && (announced.load(std::memory_order_acquire) & kEpochMask) == epoch;
    while (reads && !signals.has_stopped(reader, Phase::kDone, epoch) && !deadline.passed()) {
      std::this_thread::sleep_for(kPause);
    }
  }
}

void Group::refuse(std::uint64_t epoch, const Error& reason, const Deadline& deadline) {
  open_epoch(epoch, "refuse", deadline);
  Announcement announcement;
  announcement.kind = OperationKind::kRefused;
  announcement.refusal_code = static_cast<std::uint32_t>(reason.code());
  std::strncpy(announcement.reason, reason.what(), sizeof(announcement.reason) - 1);
  own_slot(epoch).announcement = announcement;
  signals.signal(Phase::kAnnounce, epoch);
  signals.retire(epoch);
}

HostBackend::HostBackend(Bootstrap& bootstrap, const BufferOptions& options)
    : group_(std::make_shared<Group>(exchange_windows(bootstrap, options, Deadline(options.setup_timeout)),
                                     (options.arena_bytes + kPageBytes - 1) / kPageBytes * kPageBytes)) {}

HostBackend::~HostBackend() { close(); }

std::unique_ptr<backend::DispatchOperation> HostBackend::start_dispatch(const backend::DispatchRequest& request,
                                                                        const Deadline& deadline) {
  auto operation = std::make_unique<Dispatch>(group_, request);
  group_->guarded([&] { operation->start(deadline); });
  return operation;
}

Buffer::PhaseTimes HostBackend::combine(const backend::CombineRequest& request, const Deadline& deadline) {
  Buffer::PhaseTimes times;
  group_->guarded([&] { times = Combine(*group_, request).run(deadline); });
  return times;
}

std::shared_ptr<backend::LowLatencyDispatchOperation> HostBackend::send_low_latency_dispatch(
    backend::LowLatencyDispatchRequest request, const Deadline& deadline) {
  auto operation = make_recycled<LowLatencyDispatch>(group_->recycler, group_, std::move(request));
  group_->guarded([&] { operation->send(deadline); });
  return operation;
}

std::shared_ptr<backend::ReceiveOperation> HostBackend::send_low_latency_combine(
    backend::LowLatencyCombineRequest request, const Deadline& deadline) {
  auto operation = make_recycled<LowLatencyCombine>(group_->recycler, group_, std::move(request));
  group_->guarded([&] { operation->send(deadline); });
  return operation;
}

void HostBackend::refuse(const backend::Refusal& refusal, const Error& reason, const Deadline& deadline) {
  group_->refuse(refusal.epoch, reason, deadline);
}

Tensor HostBackend::allocate(DataType dtype, std::span<const std::int64_t> shape) {
  return group_->allocate(dtype, shape);
}

void HostBackend::set_masked(int rank, bool masked, std::uint64_t next) {
  if (masked) {
    group_->signals.masks().mask(rank, next);
  } else {
    group_->signals.masks().unmask(rank, next);
  }
}

std::size_t HostBackend::arena_bytes_free() const {
  group_->kept_slabs.release(group_->signals, group_->rank(), group_->num_ranks());
  group_->staged_slabs.release_read(group_->signals, group_->rank(), group_->num_ranks());
  return group_->arena->bytes_free();
}

void HostBackend::close() noexcept { group_->signals.depart(Departure::kLeft, "left the buffer"); }

}  // namespace crossdock::host
