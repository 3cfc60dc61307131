// How the kernels of a queue go without ranks, and how ranks come back.
#include <atomic>
#include <chrono>
#include <deque>

#include "backend/cuda/cuda_error.hpp"
#include "backend/cuda/device_guard.hpp"
#include "backend/cuda/kernel_queue.hpp"
#include "base/error.hpp"

namespace crossdock::cuda {

void KernelQueue::hear_of_losses() {
  const std::lock_guard lock(mutex_);
  note_losses();
}

void KernelQueue::note_losses() {
  const std::uint64_t lost = std::atomic_ref(mailbox_[0].lost).load(std::memory_order_acquire);
  for (int rank = 0; rank < group_->num_ranks(); ++rank) {
    const std::uint64_t bit = std::uint64_t{1} << static_cast<unsigned>(rank);
    if ((lost & ~losses_noted_ & bit) != 0) static_cast<void>(group_->signals.masks().lose(rank, last_epoch_));
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
  std::atomic_ref(mailbox_[0].gone).store(0, std::memory_order_release);
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
