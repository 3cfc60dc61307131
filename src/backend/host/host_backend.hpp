// The backend for ranks that are processes or threads of one host: shared memory and CPU loops.
#pragma once

#include <exception>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <crossdock/bootstrap.hpp>

#include "backend/backend.hpp"
#include "backend/host/arena.hpp"
#include "backend/host/kept_slabs.hpp"
#include "backend/host/signals.hpp"
#include "backend/host/staged_slabs.hpp"
#include "backend/host/store_choice.hpp"
#include "backend/host/windows.hpp"
#include "base/recycling.hpp"

namespace crossdock::host {

/// A tensor of the arena that an operation needs. What it refers to must outlive the call.
struct WantedTensor {
  Tensor* tensor = nullptr;  ///< set to it
  DataType dtype = DataType::kUint8;
  std::span<const std::int64_t> shape{};
  SlabUse use = SlabUse::kResult;
};

/// What all operations of one rank share.
struct Group {
  explicit Group(Windows all_windows, std::size_t arena_bytes);

  [[nodiscard]] int rank() const noexcept { return windows.rank; }
  [[nodiscard]] int num_ranks() const noexcept { return windows.num_ranks(); }
  [[nodiscard]] Slot& own_slot(std::uint64_t epoch) const noexcept { return windows.slot(windows.rank, epoch); }
  /// A tensor's place in this rank's window, for the others to find it. REQUIRES: the tensor lies in the arena.
  [[nodiscard]] std::uint64_t offset_of(const Tensor& tensor) const;
  [[nodiscard]] std::optional<Tensor> try_allocate(DataType dtype, std::span<const std::int64_t> shape,
                                                   SlabUse use = SlabUse::kResult);
  /// All of them, or none: throws kCapacity with the bytes that would do.
  void allocate(std::span<const WantedTensor> tensors);
  [[nodiscard]] Tensor allocate(DataType dtype, std::span<const std::int64_t> shape, SlabUse use = SlabUse::kResult);
  /// Signals::open_epoch; what is then over for all ranks is given back.
  void open_epoch(std::uint64_t epoch, std::string_view operation, const Deadline& deadline);
  /// Waits for all ranks to announce, and compares. Where they do not agree every rank throws, so the epoch is over and
  /// the group goes on.
  void await_agreement(std::uint64_t epoch, std::string_view operation, const Deadline& deadline, WaitCosts costs = {});
  /// For a rank that throws after it has announced: waits until those who have announced too read its rows no more.
  void await_readers(std::uint64_t epoch, const Deadline& deadline) const;
  void refuse(std::uint64_t epoch, const Error& reason, const Deadline& deadline);
  /// The same for a reason that arose here: returns it with operation and rank, for this rank to throw.
  [[nodiscard]] Error refuse_as(std::string_view operation, std::uint64_t epoch, const Error& reason,
                                const Deadline& deadline);

  /// Runs what must not fail on this rank alone, such as half an operation: should memory run out in it, the group is
  /// broken and the peers learn it.
  template <class Body>
  void guarded(Body body) {
    try {
      body();
    } catch (const Error&) {
      throw;  // published where it arose, or common to all ranks
    } catch (const std::exception& error) {
      signals.depart(Departure::kBroken, std::string("gave up: ") + error.what());
      throw Error(ErrorCode::kCapacity, "rank " + std::to_string(rank()) + ": " + error.what()).with_rank(rank());
    }
  }

  /// For what lives no longer than an operation.
  std::shared_ptr<std::pmr::memory_resource> recycler = make_recycler();
  Windows windows;
  Signals signals;
  std::shared_ptr<Arena> arena;
  KeptSlabs kept_slabs;
  StagedSlabs staged_slabs;
  // Of low-latency operations: tokens that a dispatch stages, rows that a combine stages, and received rows that do not
  // fit a core's own caches.
  // A store to a line that others have read takes 2 to 9 ns between cores that share a cache, else more than 20. A row
  // that a combine stages is read but once, so streaming it pays sooner (docs/performance.md).
  StoreChoice dispatch_stores{kMostCoreKeeps, StoreChoice::Duration{18}};
  StoreChoice combine_stores{kMostCoreKeeps, StoreChoice::Duration{5}};
  StoreChoice fetch_stores{8 * kMostCoreKeeps, StoreChoice::Duration{12}};
};

/// Backends of other devices say how rows are moved.
class HostBackend : public backend::Backend {
 public:
  /// Collective; see exchange_windows for the errors.
  HostBackend(Bootstrap& bootstrap, const BufferOptions& options);
  HostBackend(const HostBackend&) = delete;
  HostBackend& operator=(const HostBackend&) = delete;
  ~HostBackend() override;

  [[nodiscard]] std::unique_ptr<backend::DispatchOperation> start_dispatch(const backend::DispatchRequest& request,
                                                                           const Deadline& deadline) override;
  Buffer::PhaseTimes combine(const backend::CombineRequest& request, const Deadline& deadline) override;
  [[nodiscard]] std::shared_ptr<backend::LowLatencyDispatchOperation> send_low_latency_dispatch(
      backend::LowLatencyDispatchRequest request, const Deadline& deadline) override;
  [[nodiscard]] std::shared_ptr<backend::ReceiveOperation> send_low_latency_combine(
      backend::LowLatencyCombineRequest request, const Deadline& deadline) override;
  void refuse(const backend::Refusal& refusal, const Error& reason, const Deadline& deadline) override;
  void set_masked(int rank, bool masked, std::uint64_t next) override;
  [[nodiscard]] std::vector<int> masked_ranks() const override { return group_->signals.masks().masked(); }
  [[nodiscard]] std::uint64_t readmit(std::uint64_t next, std::string_view operation,
                                      const std::function<void()>& finish) override {
    return group_->signals.readmit(next, operation, finish);
  }
  [[nodiscard]] Tensor allocate(DataType dtype, std::span<const std::int64_t> shape) override;
  [[nodiscard]] std::size_t arena_bytes_free() const override;
  [[nodiscard]] Tensor arena() const override { return group_->arena->whole(); }
  [[nodiscard]] std::size_t arena_bytes_total() const override { return group_->arena->bytes_total(); }
  [[nodiscard]] bool is_broken() const override { return group_->signals.is_broken(); }
  void close() noexcept override;

 protected:
  explicit HostBackend(std::shared_ptr<Group> group) : group_(std::move(group)) {}

 private:
  std::shared_ptr<Group> group_;
};

}  // namespace crossdock::host
