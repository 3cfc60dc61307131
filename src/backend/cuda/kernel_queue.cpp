#include "backend/cuda/kernel_queue.hpp"

#include <fmt/format.h>
#include <sched.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstring>
#include <limits>
#include <utility>
#include <vector>

#include "backend/cuda/cuda_error.hpp"
#include "backend/cuda/device_failure.hpp"
#include "backend/cuda/device_guard.hpp"
#include "base/error.hpp"

namespace crossdock::cuda {

namespace {

using std::chrono::milliseconds;

constexpr int kMostMultiprocessors = 32;    ///< of a kernel that waits: it should leave some to the experts
constexpr milliseconds kKernelGrace{2000};  ///< that a kernel may be late: it has a deadline of its own
constexpr milliseconds kReadPatience{200};  ///< for others to read what was kept
constexpr int kSpins = 2000;
constexpr int kYieldsPerClock = 64;

std::uint64_t load(const std::uint64_t& pinned) {
  return std::atomic_ref(const_cast<std::uint64_t&>(pinned)).load(std::memory_order_acquire);
}

bool is_captured(const Launch& launch) { return launch.captured != nullptr; }

}  // namespace

KernelQueue::KernelQueue(std::shared_ptr<host::Group> group, DeviceWindows windows,
                         std::shared_ptr<CommunicationStream> stream, int max_experts, int num_sharers)
    : group_(std::move(group)),
      windows_(std::move(windows)),
      stream_(std::move(stream)),
      max_experts_(max_experts),
      most_sms_(std::max(stream_->num_multiprocessors() / num_sharers, 1)),
      num_sms_(std::min(most_sms_, kMostMultiprocessors)),
      mailbox_(make_pinned<device::Mailbox>(1)) {
  const DeviceGuard guard(stream_->device().index);
  check(cudaEventCreateWithFlags(&order_, cudaEventDisableTiming), "cudaEventCreate");
  check(cudaEventCreateWithFlags(&allocated_, cudaEventDisableTiming), "cudaEventCreate");
  int least = 0;
  int greatest = 0;
  check(cudaDeviceGetStreamPriorityRange(&least, &greatest), "cudaDeviceGetStreamPriorityRange");
  check(cudaStreamCreateWithPriority(&own_stream_, cudaStreamNonBlocking, greatest), "cudaStreamCreateWithPriority");
  if (group_->windows.mask_lost_ranks) watcher_ = std::jthread([this](const std::stop_token& stop) { watch(stop); });
}

KernelQueue::~KernelQueue() {
  if (order_ != nullptr) static_cast<void>(cudaEventDestroy(order_));
  if (allocated_ != nullptr) static_cast<void>(cudaEventDestroy(allocated_));
  if (own_stream_ != nullptr) static_cast<void>(cudaStreamDestroy(own_stream_));
}

Launch KernelQueue::begin(std::string_view operation, std::uint64_t epoch, Completion completion,
                          const Stream& caller) {
  const std::lock_guard lock(mutex_);
  const bool is_awaited = completion == Completion::kSynchronous || completion == Completion::kAsynchronous;
  Launch launch;
  launch.operation = operation;
  launch.epoch = epoch;
  launch.stream = is_awaited ? own_stream_ : static_cast<cudaStream_t>(caller.native);
  launch.captured = CaptureSlabs::of(launch.stream, last_capture_.lock());
  if (is_awaited) {
    launch.ticket = stream_->take_ticket();
    check(cudaEventRecord(allocated_, stream_->get()), "the order of memory");
    check(cudaStreamWaitEvent(own_stream_, allocated_), "the order of memory");
  }
  launch.ordinal = ++last_ordinal_;
  last_epoch_ = epoch;
  awaited_[launch.ordinal % awaited_.size()] = is_awaited ? launch.ordinal : 0;
  order(launch);
  if (completion == Completion::kHook && !launch.captured) {
    ++*open_hooks_;
    launch.open_hook = {open_hooks_.get(), [count = open_hooks_](void*) { --*count; }};
  }
  return launch;
}

Launch KernelQueue::begin_local(const Stream& caller) {
  const std::lock_guard lock(mutex_);
  Launch launch;
  launch.stream = static_cast<cudaStream_t>(caller.native);
  launch.captured = CaptureSlabs::of(launch.stream, last_capture_.lock());
  launch.ordinal = last_ordinal_;
  order(launch);
  return launch;
}

void KernelQueue::resume(Launch& launch) {
  const std::lock_guard lock(mutex_);
  order(launch);
  launch.open_hook = nullptr;
}

/// After the kernels of the operations before.
void KernelQueue::order(const Launch& launch) {
  if (was_launched_ && last_stream_ != launch.stream && was_captured_ == is_captured(launch) &&
      last_capture_.lock() == launch.captured) {
    check(cudaStreamWaitEvent(launch.stream, order_), "the order of operations");
  }
}

void KernelQueue::note_launched(const Launch& launch) {
  const std::lock_guard lock(mutex_);
  check(cudaEventRecord(order_, launch.stream), "the order of operations");
  was_launched_ = true;
  last_stream_ = launch.stream;
  last_capture_ = launch.captured;
  was_captured_ = is_captured(launch);
}

device::Party KernelQueue::party(const Launch& launch, device::Phases phases, const Tensor& epoch, Milliseconds timeout,
                                 const std::optional<Tensor>& wait_costs) const {
  device::Party party;
  party.rank = group_->rank();
  party.num_ranks = group_->num_ranks();
  party.max_experts = max_experts_;
  party.phases = phases;
  party.notes_progress = !launch.captured;
  party.masks_lost = group_->windows.mask_lost_ranks;
  party.ordinal = launch.ordinal;
  party.timeout_ns = static_cast<std::uint64_t>(std::chrono::nanoseconds(std::min(timeout, kLongest)).count());
  party.mailbox = mailbox_.get();
  if (wait_costs) party.wait_costs = wait_costs->data_as<std::int64_t>();
  if (epoch.defined()) party.epoch = epoch.data_as<std::uint64_t>();
  for (std::size_t rank = 0; rank < windows_.size(); ++rank) party.windows[rank] = windows_[rank]->data();
  return party;
}

void KernelQueue::allocate(const Launch& launch, std::span<const host::WantedTensor> tensors) {
  const auto attempt = [&] {
    for (const host::WantedTensor& wanted : tensors) {
      auto tensor = launch.captured
                        ? launch.captured->try_allocate(*group_->arena, wanted.dtype, wanted.shape, wanted.use)
                        : group_->arena->try_allocate(wanted.dtype, wanted.shape, wanted.use);
      if (!tensor) {
        for (const host::WantedTensor& other : tensors) *other.tensor = {};
        return false;
      }
      *wanted.tensor = *std::move(tensor);
    }
    return true;
  };
  release_kept();
  if (attempt()) return;
  const Deadline patience(kReadPatience);
  do {
    release_read();
    if (attempt()) return;
  } while (!launch.captured && has_kept() && !patience.passed());
  group_->allocate(tensors);  // throws
}

void KernelQueue::keep(const Launch& launch, Tensor slab) {
  if (launch.captured) return;  // no one else may have it
  const std::lock_guard lock(mutex_);
  kept_.push_back({launch.ordinal, std::move(slab)});
}

bool KernelQueue::has_kept() {
  const std::lock_guard lock(mutex_);
  return !kept_.empty();
}

void KernelQueue::release_kept() {
  std::vector<Tensor> released;  // given back without the lock
  const std::lock_guard lock(mutex_);
  const std::uint64_t read = load(mailbox_[0].read_ordinal);
  while (!kept_.empty() && kept_.front().ordinal <= read) {
    released.push_back(std::move(kept_.front().slab));
    kept_.pop_front();
  }
}

void KernelQueue::release_read() {
  Launch launch;
  launch.operation = "memory";
  {
    const std::lock_guard lock(mutex_);
    if (kept_.empty() || last_capture_.lock()) return;
    launch.stream = own_stream_;
    launch.ordinal = last_ordinal_;
    launch.ticket = stream_->take_ticket();
    order(launch);
  }
  const DeviceGuard guard(stream_->device().index);
  const device::Party all = party(launch, device::Phases::kBoth, {}, milliseconds(0), {});
  check(device::launch_progress(all, launch.ticket->completion, launch.stream), "progress");
  note_launched(launch);
  // Not longer: what is queued before it may wait for a hook that this rank has still to call.
  const Deadline deadline(kReadPatience);
  while (!CommunicationStream::is_through(*launch.ticket) && !deadline.passed()) ::sched_yield();
  {
    const std::lock_guard lock(mutex_);
    std::erase_if(late_, [](const auto& ticket) { return CommunicationStream::is_through(*ticket); });
    if (!CommunicationStream::is_through(*launch.ticket)) late_.push_back(launch.ticket);
  }
  release_kept();
}

void KernelQueue::await(const Launch& launch, const Deadline& deadline) {
  int spins = kSpins;
  auto next_watch = Deadline::Clock::now() + kWatchInterval;
  // If ranks are lost, one after the other, the kernel has patience with each.
  const int losses = group_->windows.mask_lost_ranks ? group_->num_ranks() + 1 : 0;  // and with what the last stores
  const Deadline given_up(deadline.left() + kKernelGrace +
                          losses * std::max<Milliseconds>(std::min(deadline.timeout(), kLongest), kKernelGrace));
  while (!CommunicationStream::is_through(*launch.ticket)) {
    if (spins-- > 0) continue;
    for (int i = 0; i < kYieldsPerClock && !CommunicationStream::is_through(*launch.ticket); ++i) ::sched_yield();
    if (Deadline::Clock::now() < next_watch) continue;
    next_watch += kWatchInterval;
    watch_peers();
    note_masked(launch.epoch);
    const cudaError_t state = cudaStreamQuery(launch.stream);
    if (state != cudaErrorNotReady && state != cudaSuccess) {
      group_->signals.depart(host::Departure::kBroken, "gave up: its device failed");
      check(state, "a kernel of crossdock");
    }
    if (!given_up.passed()) continue;
    group_->signals.depart(host::Departure::kBroken, "gave up: a kernel did not end");
    throw make_error(ErrorCode::kTimeout, "rank {}: {}: a kernel on CUDA device {} did not end within {} ms",
                     group_->rank(), launch.operation, stream_->device().index, deadline.timeout().count());
  }
  const std::lock_guard lock(mutex_);
  note_losses();
  device::Failure& failure = mailbox_[0].failures[launch.ordinal % device::Mailbox::kFailures];
  if (load(failure.ordinal) == launch.ordinal) throw take(failure, launch.operation, deadline.timeout());
}

void KernelQueue::throw_unawaited() {
  const std::lock_guard lock(mutex_);
  note_losses();
  const std::uint64_t num_failures = load(mailbox_[0].num_failures);
  if (num_failures == failures_taken_) return;
  failures_taken_ = num_failures;
  std::vector<device::Failure*> pending;
  for (device::Failure& failure : mailbox_[0].failures) {
    const std::uint64_t ordinal = load(failure.ordinal);
    if (ordinal != 0 && awaited_[ordinal % awaited_.size()] != ordinal) pending.push_back(&failure);
  }
  if (pending.empty()) return;
  // Those that come after the first may have come of it.
  const Error error =
      take(**std::ranges::min_element(pending, {}, &device::Failure::ordinal), "an earlier operation", Milliseconds(0));
  for (device::Failure* failure : pending) std::atomic_ref(failure->ordinal).store(0, std::memory_order_relaxed);
  throw error;
}

Error KernelQueue::take(device::Failure& failure, std::string_view operation, Milliseconds timeout) {
  Error error = error_of(failure, {operation, group_->rank(), timeout,
                                   [this](int rank, std::uint64_t epoch) { return reason_of(rank, epoch); }});
  const bool is_lonely =
      group_->signals.masks().is_left_out(std::numeric_limits<std::uint64_t>::max());  // then no one came for it
  if (device::breaks_buffer(failure.kind) && !is_lonely) {
    group_->signals.depart(host::Departure::kBroken, std::string("gave up: ") + error.what());
  }
  std::atomic_ref(failure.ordinal).store(0, std::memory_order_relaxed);
  return error;
}

std::string KernelQueue::reason_of(int rank, std::uint64_t epoch) const {
  const DeviceGuard guard(stream_->device().index);
  char text[device::ControlLayout::kReasonBytes] = {};
  const device::ControlLayout layout(group_->num_ranks(), max_experts_);
  const std::byte* const from =
      windows_[static_cast<std::size_t>(rank)]->data() + layout.reason(epoch % device::kSlots);
  check(cudaMemcpyAsync(text, from, sizeof(text), cudaMemcpyDeviceToHost, stream_->get()), "the reason of a refusal");
  check(cudaStreamSynchronize(stream_->get()), "the reason of a refusal");
  text[sizeof(text) - 1] = '\0';
  return text;
}

void KernelQueue::refuse(const Stream& caller, const Error& reason, Milliseconds timeout) {
  const DeviceGuard guard(stream_->device().index);
  // What is captured cannot be refused: it fails when it is launched, by its deadline.
  if (CaptureSlabs::of(static_cast<cudaStream_t>(caller.native), nullptr)) return;
  Launch launch;
  launch.operation = "refuse";
  launch.stream = own_stream_;
  {
    const std::lock_guard lock(mutex_);
    launch.ordinal = ++last_ordinal_;
    awaited_[launch.ordinal % awaited_.size()] = 0;
    order(launch);
  }
  device::RefusalArgs args;
  args.party = party(launch, device::Phases::kBoth, {}, timeout, {});
  args.code = static_cast<std::int64_t>(reason.code());
  std::strncpy(args.reason, reason.what(), sizeof(args.reason) - 1);
  check(device::launch_refusal(args, launch.stream), "a refusal");
  note_launched(launch);
}

void KernelQueue::abandon(Launch& launch, const Tensor& epoch) {
  const DeviceGuard guard(stream_->device().index);
  resume(launch);
  check(device::launch_abandon(party(launch, device::Phases::kReceive, epoch, milliseconds(0), {}), launch.stream),
        "an abandoned operation");
  note_launched(launch);
}

Tensor KernelQueue::copy_to_host(const Tensor& tensor) {
  const DeviceGuard guard(stream_->device().index);
  Launch launch;
  launch.stream = own_stream_;
  {
    const std::lock_guard lock(mutex_);
    order(launch);
  }
  return cuda::copy_to_host(tensor, own_stream_);
}

}  // namespace crossdock::cuda
