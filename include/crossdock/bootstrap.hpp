// How ranks find each other: one small interface and the ways to get one.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include <crossdock/export.hpp>

namespace crossdock {

using Milliseconds = std::chrono::milliseconds;
using Bytes = std::vector<std::byte>;

/// A group of ranks that can exchange small messages. Used only while a buffer is made; never on the data path.
///
/// Collective: every rank calls the same functions in the same order. One thread per rank at a time.
/// Failure: throws Error (kTimeout, kPeerLost or kBootstrap) that names the ranks that did not come; after a failure
/// the group must not be used again.
class CROSSDOCK_EXPORT Bootstrap {
 public:
  virtual ~Bootstrap();

  /// This rank, 0 <= rank() < size().
  [[nodiscard]] virtual int rank() const noexcept = 0;
  /// Number of ranks, at least 1.
  [[nodiscard]] virtual int size() const noexcept = 0;
  /// Each rank's `mine`, in rank order; lengths may differ between ranks.
  [[nodiscard]] virtual std::vector<Bytes> all_gather(std::span<const std::byte> mine, Milliseconds timeout) = 0;
  /// Returns once every rank has called it.
  virtual void barrier(Milliseconds timeout) = 0;
};

/// Ranks as threads of one process: `size` connected groups, element i is for rank i. Throws for size < 1.
[[nodiscard]] CROSSDOCK_EXPORT std::vector<std::shared_ptr<Bootstrap>> make_in_process_bootstraps(int size);

/// A group that gathers through a function of the engine, as the seed does through its device.
/// `all_gather(mine)` must return every rank's bytes in rank order; all contributions of one call have equal length
/// (crossdock pads). Deadlines are then the engine's own; exceptions pass through.
struct CallbackBootstrapOptions {
  int rank = 0;
  int size = 1;
  std::function<std::vector<Bytes>(std::span<const std::byte> mine)> all_gather;
};
[[nodiscard]] CROSSDOCK_EXPORT std::shared_ptr<Bootstrap> make_callback_bootstrap(CallbackBootstrapOptions options);

/// TCP rendezvous at rank 0.
struct TcpBootstrapOptions {
  std::string address = "127.0.0.1";  ///< host of rank 0: name, IPv4 or IPv6
  std::uint16_t port = 0;             ///< port that rank 0 listens on; 0 is refused
  int rank = 0;
  int size = 1;
  std::string secret{};           ///< if not empty, every rank must prove that it knows it (HMAC challenge)
  Milliseconds timeout{100'000};  ///< for all ranks to arrive
};
/// Throws kBootstrap on rank 0 if the port is in use, and on another rank if rank 0 refuses it: its secret is wrong,
/// its size differs, its rank has already come. Rank 0 logs whom it refuses and goes on, since strangers may connect
/// too. Throws kTimeout, naming the missing ranks (on rank 0 also the latest refusals), if some rank does not come;
/// kPeerLost if one came and then disappeared.
[[nodiscard]] CROSSDOCK_EXPORT std::shared_ptr<Bootstrap> make_tcp_bootstrap(const TcpBootstrapOptions& options);

/// Options from the environment variables of torchrun (MASTER_ADDR, MASTER_PORT, RANK, WORLD_SIZE), or of mpirun or
/// srun for rank and size (see crossdock/environment.hpp). None if the environment names no rank (then there is a
/// single rank). Throws kInvalidArgument if it names a rank but not MASTER_ADDR or MASTER_PORT, or a value is
/// malformed.
[[nodiscard]] CROSSDOCK_EXPORT std::optional<TcpBootstrapOptions> tcp_bootstrap_options_from_environment();

}  // namespace crossdock
