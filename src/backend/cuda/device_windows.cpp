#include "backend/cuda/device_windows.hpp"

#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <exception>
#include <random>
#include <span>
#include <type_traits>

#include "backend/cuda/device_guard.hpp"
#include "backend/cuda/virtual_memory.hpp"
#include "backend/host/fd_channel.hpp"
#include "base/error.hpp"

namespace crossdock::cuda {

namespace {

/// What a rank tells the others of its arena.
struct Offer {
  std::int32_t failed = 0;  ///< 1: there is none, or another rank's cannot be had; `reason` says why
  std::int32_t code = 0;    ///< ErrorCode of the failure
  char reason[512] = {};
  std::uint64_t process = 0;
  std::int32_t device = 0;
  cudaUUID_t uuid{};          ///< of the device
  std::int32_t has_ipc = 0;   ///< `handle` is one
  char why_no_ipc[256] = {};  ///< if it is not
  cudaIpcMemHandle_t handle{};
  host::Nonce channel{};                                  ///< where file descriptors for this rank are sent to
  std::uint64_t num_bytes = 0;                            ///< of virtual memory
  const std::shared_ptr<DeviceMemory>* memory = nullptr;  ///< for ranks of the same process only
};
static_assert(std::is_trivially_copyable_v<Offer>);

/// Differs between processes, forked ones too.
std::uint64_t process_token() {
  static const std::uint64_t token = (std::uint64_t{std::random_device{}()} << 32U) | std::random_device{}();
  return token ^ (static_cast<std::uint64_t>(::getpid()) << 40U);
}

std::vector<Offer> gather(Bootstrap& bootstrap, const Offer& mine, const Deadline& deadline) {
  const auto all = bootstrap.all_gather(std::as_bytes(std::span(&mine, 1)), deadline.left());
  std::vector<Offer> offers(all.size());
  for (std::size_t rank = 0; rank < all.size(); ++rank) {
    if (all[rank].size() != sizeof(Offer)) {
      Error error = make_error(ErrorCode::kMismatch, "rank {} offers its arena in {} bytes, not {}: is it on CUDA?",
                               rank, all[rank].size(), sizeof(Offer));
      throw error.with_rank(static_cast<int>(rank));
    }
    std::memcpy(&offers[rank], all[rank].data(), sizeof(Offer));
  }
  for (std::size_t rank = 0; rank < offers.size(); ++rank) {
    if (offers[rank].failed == 0) continue;
    Error error(static_cast<ErrorCode>(offers[rank].code), fmt::format("rank {}: {}", rank, offers[rank].reason));
    throw error.with_rank(static_cast<int>(rank));
  }
  return offers;
}

/// Runs `body`; if it throws, the offer says why.
template <typename Body>
void or_failed(Offer& offer, const Body& body) {
  try {
    body();
  } catch (const std::exception& error) {
    const auto* ours = dynamic_cast<const Error*>(&error);
    offer.failed = 1;
    offer.code = static_cast<std::int32_t>(ours != nullptr ? ours->code() : ErrorCode::kCapacity);
    std::strncpy(offer.reason, error.what(), sizeof(offer.reason) - 1);
  }
}

/// Lets kernels of the current device reach another device of this process.
void reach_device(int from, int to) {
  if (from == to) return;
  int can_reach = 0;
  check(cudaDeviceCanAccessPeer(&can_reach, from, to), "cudaDeviceCanAccessPeer");
  if (can_reach == 0) {
    throw make_error(ErrorCode::kUnsupported, "CUDA device {} cannot reach the memory of device {}", from, to);
  }
  const cudaError_t error = cudaDeviceEnablePeerAccess(to, 0);
  if (error == cudaErrorPeerAccessAlreadyEnabled) {
    static_cast<void>(cudaGetLastError());
    return;
  }
  check(error, "cudaDeviceEnablePeerAccess");
}

/// One rank's part of the exchange. REQUIRES: the device is the current one.
class Exchange {
 public:
  Exchange(Bootstrap& bootstrap, int device, const WindowBytes& bytes, const Deadline& deadline)
      : bootstrap_(bootstrap),
        device_(device),
        bytes_(bytes),
        deadline_(deadline),
        own_(static_cast<std::size_t>(bootstrap.rank())),
        windows_(static_cast<std::size_t>(bootstrap.size())) {
    mine_.process = process_token();
    mine_.device = device;
  }

  DeviceGroup run(Sharing sharing) {
    or_failed(mine_, [&] { allocate(sharing); });
    std::vector<Offer> offers = gather(bootstrap_, mine_, deadline_);
    const bool have_ipc = std::ranges::all_of(offers, [](const Offer& offer) { return offer.has_ipc != 0; });
    const bool is_alone = std::ranges::all_of(offers, [&](const Offer& offer) { return is_here(offer); });
    const bool uses_fds = !is_alone && (sharing == Sharing::kFileDescriptors || !have_ipc);
    if (uses_fds) offers = share_file_descriptors();
    or_failed(mine_, [&] {
      for (std::size_t rank = 0; rank < windows_.size(); ++rank) {
        if (rank == own_) continue;
        if (is_here(offers[rank])) {
          reach_device(device_, offers[rank].device);
          windows_[rank] = *offers[rank].memory;
          if (offers[rank].device != device_) windows_[rank]->let_reach(device_);
        } else if (!uses_fds) {
          windows_[rank] = std::make_shared<DeviceMemory>(offers[rank].handle);
        }
      }
      if (uses_fds) receive(offers);
    });
    static_cast<void>(
        gather(bootstrap_, mine_, deadline_));  // also a barrier: no rank needs another's pointer any more
    const auto num_here = std::ranges::count_if(offers, [&](const Offer& offer) { return is_here(offer); });
    return {std::move(windows_), sharers_of(offers, mine_), most_sharers_of(offers), static_cast<int>(num_here)};
  }

 private:
  [[nodiscard]] bool is_here(const Offer& offer) const { return offer.process == mine_.process; }

  static int sharers_of(const std::vector<Offer>& offers, const Offer& one) {
    return static_cast<int>(std::ranges::count_if(
        offers, [&](const Offer& other) { return std::memcmp(&other.uuid, &one.uuid, sizeof(one.uuid)) == 0; }));
  }
  static int most_sharers_of(const std::vector<Offer>& offers) {
    int most = 1;
    for (const Offer& offer : offers) most = std::max(most, sharers_of(offers, offer));
    return most;
  }

  void clear_control() const {
    check(cudaMemset(windows_[own_]->data(), 0, bytes_.control), "cudaMemset");
    check(cudaDeviceSynchronize(), "cudaDeviceSynchronize");
  }

  void allocate(Sharing sharing) {
    windows_[own_] = std::make_shared<DeviceMemory>(bytes_.control + bytes_.arena);
    clear_control();
    cudaDeviceProp properties{};
    check(cudaGetDeviceProperties(&properties, device_), "cudaGetDeviceProperties");
    mine_.uuid = properties.uuid;
    mine_.memory = &windows_[own_];
    if (windows_.size() == 1) return;
    try {
      mine_.handle = windows_[own_]->handle();
      mine_.has_ipc = 1;
    } catch (const Error& error) {
      static_cast<void>(cudaGetLastError());
      if (sharing == Sharing::kIpc || !offers_virtual_memory(device_)) throw;
      std::strncpy(mine_.why_no_ipc, error.what(), sizeof(mine_.why_no_ipc) - 1);
    }
  }

  /// Not all can use CUDA IPC: allocates again what a descriptor stands for, and sends it to the other processes.
  std::vector<Offer> share_file_descriptors() {
    or_failed(mine_, [&] {
      windows_[own_].reset();
      ExportedMemory exported = allocate_virtual_memory(device_, bytes_.control + bytes_.arena);
      windows_[own_] = std::make_shared<DeviceMemory>(exported.memory);
      clear_control();
      exported_ = std::move(exported.fd);
      mine_.num_bytes = exported.memory.bytes;
      mine_.channel = host::make_nonce();
      listener_ = host::listen_fd_channel(mine_.channel, static_cast<int>(windows_.size()));
    });
    std::vector<Offer> offers = gather(bootstrap_, mine_, deadline_);
    or_failed(mine_, [&] {
      for (const Offer& offer : offers) {
        if (is_here(offer)) continue;
        const FileDescriptor channel = host::connect_fd_channel(offer.channel);
        host::send_fd(channel, {offer.channel, static_cast<std::int32_t>(own_)}, exported_.get());
      }
    });
    static_cast<void>(gather(bootstrap_, mine_, deadline_));  // all have sent, or all throw
    return offers;
  }

  void receive(const std::vector<Offer>& offers) {
    const auto others = std::ranges::count_if(offers, [&](const Offer& offer) { return !is_here(offer); });
    for (std::ptrdiff_t i = 0; i < others; ++i) {
      const FileDescriptor channel = host::accept_fd_channel(listener_, deadline_);
      const host::ReceivedFd received = host::receive_fd(channel, deadline_);
      const auto rank = static_cast<std::size_t>(received.message.rank);
      if (received.message.nonce != mine_.channel || rank >= windows_.size() || windows_[rank]) {
        throw make_error(ErrorCode::kBootstrap, "a descriptor from a process that is not of this group");
      }
      windows_[rank] =
          std::make_shared<DeviceMemory>(import_virtual_memory(device_, received.fd, offers[rank].num_bytes));
    }
  }

  Bootstrap& bootstrap_;
  int device_;
  WindowBytes bytes_;
  const Deadline& deadline_;
  std::size_t own_;
  DeviceWindows windows_;
  Offer mine_;
  FileDescriptor exported_;
  FileDescriptor listener_;
};

}  // namespace

DeviceGroup exchange_device_windows(Bootstrap& bootstrap, int device, const WindowBytes& bytes,
                                    const Deadline& deadline, Sharing sharing) {
  const DeviceGuard guard(device);
  return Exchange(bootstrap, device, bytes, deadline).run(sharing);
}

}  // namespace crossdock::cuda
