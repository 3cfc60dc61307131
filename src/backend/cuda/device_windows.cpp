#include "backend/cuda/device_windows.hpp"

#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <exception>
#include <random>
#include <span>
#include <type_traits>

#include "backend/cuda/device_guard.hpp"
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
  cudaUUID_t uuid{};  ///< of the device
  cudaIpcMemHandle_t handle{};
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

}  // namespace

DeviceGroup exchange_device_windows(Bootstrap& bootstrap, int device, const WindowBytes& bytes,
                                    const Deadline& deadline) {
  const DeviceGuard guard(device);
  const auto own = static_cast<std::size_t>(bootstrap.rank());
  DeviceWindows windows(static_cast<std::size_t>(bootstrap.size()));
  Offer mine;
  mine.process = process_token();
  mine.device = device;
  or_failed(mine, [&] {
    windows[own] = std::make_shared<DeviceMemory>(bytes.control + bytes.arena);
    check(cudaMemset(windows[own]->data(), 0, bytes.control), "cudaMemset");
    check(cudaDeviceSynchronize(), "cudaDeviceSynchronize");
    cudaDeviceProp properties{};
    check(cudaGetDeviceProperties(&properties, device), "cudaGetDeviceProperties");
    mine.uuid = properties.uuid;
    if (windows.size() > 1) mine.handle = windows[own]->handle();
    mine.memory = &windows[own];
  });
  const std::vector<Offer> offers = gather(bootstrap, mine, deadline);
  or_failed(mine, [&] {
    for (std::size_t rank = 0; rank < windows.size(); ++rank) {
      if (rank == own) continue;
      if (offers[rank].process == mine.process) {
        reach_device(device, offers[rank].device);
        windows[rank] = *offers[rank].memory;
      } else {
        windows[rank] = std::make_shared<DeviceMemory>(offers[rank].handle);
      }
    }
  });
  static_cast<void>(gather(bootstrap, mine, deadline));  // also a barrier: no rank needs another's pointer any more
  const auto sharers_of = [&](const Offer& one) {
    return static_cast<int>(std::ranges::count_if(
        offers, [&](const Offer& other) { return std::memcmp(&other.uuid, &one.uuid, sizeof(one.uuid)) == 0; }));
  };
  int most_sharers = 1;
  for (const Offer& offer : offers) most_sharers = std::max(most_sharers, sharers_of(offer));
  return {std::move(windows), sharers_of(mine), most_sharers};
}

}  // namespace crossdock::cuda
