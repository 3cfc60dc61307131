// How the kernels of a queue go without ranks, and how ranks come back.
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <stop_token>

#include "backend/cuda/cuda_error.hpp"
#include "backend/cuda/device_guard.hpp"
#include "backend/cuda/kernel_queue.hpp"
#include "base/error.hpp"

namespace crossdock::cuda {

namespace {

std::uint64_t bit_of(int rank) { return std::uint64_t{1} << static_cast<unsigned>(rank); }

}  // namespace

/// One that has left has done its part of everything that it began.
void KernelQueue::watch_peers() {
  std::uint64_t gone = 0;
  std::uint64_t ended = 0;
  for (int rank = 0; rank < group_->num_ranks(); ++rank) {
    if (rank == group_->rank()) continue;
    if (group_->signals.is_gone(rank)) gone |= bit_of(rank);
    if (group_->signals.has_ended(rank)) ended |= bit_of(rank);
  }
  std::atomic_ref(mailbox_[0].gone).fetch_or(gone, std::memory_order_release);
  std::atomic_ref(mailbox_[0].ended).fetch_or(ended, std::memory_order_release);
}

void KernelQueue::note_masked(std::uint64_t epoch) {
  const std::uint64_t bit = bit_of(group_->rank());
  const std::atomic_ref word(mailbox_[0].gone);
  if (group_->signals.masks().is_left_out(epoch)) {
    word.fetch_or(bit, std::memory_order_release);
  } else {
    word.fetch_and(~bit, std::memory_order_release);
  }
}

void KernelQueue::watch(const std::stop_token& stop) {
  std::mutex mutex;
  std::condition_variable_any stopped;
  std::unique_lock lock(mutex);
  while (!stopped.wait_for(lock, stop, kWatchInterval, [&] { return stop.stop_requested(); })) watch_peers();
}

void KernelQueue::hear_of_losses() {
  const std::lock_guard lock(mutex_);
  note_losses();
}

void KernelQueue::note_losses() {
  const std::uint64_t lost = std::atomic_ref(mailbox_[0].lost).load(std::memory_order_acquire);
  for (int rank = 0; rank < group_->num_ranks(); ++rank) {
    if ((lost & ~losses_noted_ & bit_of(rank)) != 0) group_->signals.lose(rank, last_epoch_);
  }
  losses_noted_ = lost;
}

void KernelQueue::set_masks(std::uint64_t masked, std::uint64_t admitted) {
  if (admitted != 0 && *open_hooks_ > 0) {
    throw make_error(ErrorCode::kState, "a masked rank can come back once {} hooks of earlier operations were called",
                     open_hooks_->load());
  }
  device::ReadmissionArgs args;
  args.masked = masked;
  args.admitted = admitted;
  readmit(args);
}

void KernelQueue::come_back(std::uint64_t masked) {
  std::atomic_ref(mailbox_[0].gone).fetch_and(~bit_of(group_->rank()), std::memory_order_release);
  device::ReadmissionArgs args;
  args.masked = masked;
  args.comes_back = true;
  readmit(args);
  // The others read nothing of what this rank began before.
  std::deque<Kept> released;  // given back without the lock
  const std::lock_guard lock(mutex_);
  released.swap(kept_);
}

void KernelQueue::readmit(const device::ReadmissionArgs& args) {
  const DeviceGuard guard(stream_->device().index);
  Launch launch;
  launch.stream = own_stream_;
  {
    const std::lock_guard lock(mutex_);
    order(launch);
  }
  device::ReadmissionArgs complete = args;
  complete.party = party(launch, device::Phases::kBoth, {}, std::chrono::milliseconds(0), {});
  check(device::launch_readmission(complete, launch.stream), "masks");
  check(cudaStreamSynchronize(launch.stream), "masks");
}

}  // namespace crossdock::cuda
