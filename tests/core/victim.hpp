// Ranks that take part up to a chosen moment. They speak the host backend's protocol by hand, so that they can stop
// where a real rank would go on.
#pragma once

#include <sys/types.h>

#include <csignal>
#include <cstdint>
#include <cstring>
#include <memory>
#include <utility>
#include <vector>

#include <crossdock/bootstrap.hpp>
#include <crossdock/buffer.hpp>

#include "backend/host/host_backend.hpp"
#include "backend/host/window_exchange.hpp"
#include "core/round_trip.hpp"

namespace crossdock::testing {

/// A rank without tokens in round trips of the default shape. Rows that it receives land in one heap at the start of
/// its arena.
class Victim {
 public:
  Victim(Bootstrap& bootstrap, const BufferOptions& options)
      : group_(host::exchange_windows(bootstrap, options, Deadline(options.setup_timeout)), options.arena_bytes) {}

  void announce_dispatch(std::uint64_t epoch) {
    announce_dispatch_alone(epoch);
    await(host::Phase::kAnnounce, epoch);
  }

  /// Does not wait for the others to announce it too.
  void announce_dispatch_alone(std::uint64_t epoch) {
    const RoundTripShape shape;
    host::Announcement& a = group_.own_slot(epoch).announcement = host::Announcement{};
    a.kind = host::OperationKind::kDispatch;
    a.dtype = static_cast<std::uint32_t>(shape.dtype);
    a.hidden = shape.hidden;
    a.num_topk = shape.num_topk;
    a.topk_dtype = static_cast<std::uint32_t>(shape.id_dtype);
    a.num_experts = shape.num_experts;
    a.has_worst_tokens = num_worst_tokens_ >= 0 ? 1 : 0;
    a.num_worst_tokens = num_worst_tokens_;
    group_.signals.signal(host::Phase::kAnnounce, epoch);
  }

  void announce_worst_case_dispatch(std::uint64_t epoch, std::int64_t num_worst_tokens) {
    num_worst_tokens_ = num_worst_tokens;
    write_placement(epoch);
    announce_dispatch(epoch);
  }

  void place(std::uint64_t epoch) {
    write_placement(epoch);
    group_.signals.signal(host::Phase::kPlace, epoch);
    await(host::Phase::kPlace, epoch);
    for (int rank = 0; rank < group_.num_ranks(); ++rank) {
      placements_.push_back(group_.windows.slot(rank, epoch).placement);
    }
  }

  /// Rubbish, where the others said in the last place() that rows may be stored.
  void store_rows(std::int64_t rows) const {
    const RoundTripShape shape;
    const std::size_t bytes = static_cast<std::size_t>(rows * shape.hidden) * size_of(shape.dtype);
    for (int rank = 0; rank < group_.num_ranks(); ++rank) {
      std::memset(group_.windows.data(rank) + placements_[static_cast<std::size_t>(rank)].x, 0xEE, bytes);
    }
  }

  void send(std::uint64_t epoch) {
    group_.signals.signal(host::Phase::kSend, epoch);
    await(host::Phase::kSend, epoch);
  }

  void dispatch_without_retiring(std::uint64_t epoch) {
    announce_dispatch(epoch);
    place(epoch);
    send(epoch);
  }

  /// A whole one.
  void dispatch(std::uint64_t epoch) {
    dispatch_without_retiring(epoch);
    group_.signals.retire(epoch);
  }

  void announce_combine(std::uint64_t epoch, std::uint64_t dispatch_epoch) {
    const RoundTripShape shape;
    host::Announcement& a = group_.own_slot(epoch).announcement = host::Announcement{};
    a.kind = host::OperationKind::kCombine;
    a.dtype = static_cast<std::uint32_t>(shape.dtype);
    a.hidden = shape.hidden;
    a.handle_epoch = dispatch_epoch;
    a.x_offset = group_.windows.layout.arena_offset();
    a.x_stride = static_cast<std::uint64_t>(shape.hidden) * size_of(shape.dtype);
    group_.signals.signal(host::Phase::kAnnounce, epoch);
    await(host::Phase::kAnnounce, epoch);
  }

  void done(std::uint64_t epoch) {
    group_.signals.signal(host::Phase::kDone, epoch);
    await(host::Phase::kDone, epoch);
  }

  [[nodiscard]] std::uint64_t readmit(std::uint64_t next) {
    return group_.signals.readmit(next, "victim", [] {});
  }

 private:
  void write_placement(std::uint64_t epoch) {
    const std::uint64_t part = group_.arena->bytes_total() / 8 / host::kLineBytes * host::kLineBytes;
    const auto at = [&](std::uint64_t number) { return group_.windows.layout.arena_offset() + number * part; };
    group_.own_slot(epoch).placement = {
        .x = at(0), .scales = at(4), .topk_idx = at(5), .topk_weights = at(6), .src_idx = at(7)};
  }

  void await(host::Phase phase, std::uint64_t epoch) {
    group_.signals.wait_all(phase, epoch, "victim", Deadline(Milliseconds(10'000)));
  }

  host::Group group_;
  std::int64_t num_worst_tokens_ = -1;
  std::vector<host::Placement> placements_;
};

/// Kills its process at a chosen moment while a buffer is made.
class DyingBootstrap final : public Bootstrap {
 public:
  enum class Moment : std::uint8_t { kBeforeGather, kAfterGather, kBeforeBarrier };

  DyingBootstrap(std::shared_ptr<Bootstrap> real, Moment moment) : real_(std::move(real)), moment_(moment) {}

  [[nodiscard]] int rank() const noexcept override { return real_->rank(); }
  [[nodiscard]] int size() const noexcept override { return real_->size(); }
  [[nodiscard]] std::vector<Bytes> all_gather(std::span<const std::byte> mine, Milliseconds timeout) override {
    die_at(Moment::kBeforeGather);
    auto result = real_->all_gather(mine, timeout);
    die_at(Moment::kAfterGather);
    return result;
  }
  void barrier(Milliseconds timeout) override {
    die_at(Moment::kBeforeBarrier);
    real_->barrier(timeout);
  }

 private:
  void die_at(Moment moment) const {
    if (moment == moment_) std::raise(SIGKILL);
  }

  std::shared_ptr<Bootstrap> real_;
  Moment moment_;
};

}  // namespace crossdock::testing
