#include "backend/host/window_exchange.hpp"

#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <chrono>
#include <cstring>
#include <string_view>
#include <thread>
#include <type_traits>

#include "backend/host/fd_channel.hpp"
#include "base/cpu.hpp"
#include "base/error.hpp"
#include "base/logging.hpp"

namespace crossdock::host {

namespace {

/// Between two looks at whether the ranks that are waited for are still alive.
constexpr std::chrono::milliseconds kCheckInterval{50};

/// Process ids mean something only among processes of one PID namespace. 0 if it cannot be told.
std::uint64_t pid_namespace() {
  struct stat status {};
  return ::stat("/proc/self/ns/pid", &status) == 0 ? status.st_ino : 0;
}

/// One per process; a forked child has the same token but another pid.
const Nonce& process_token() {
  static const Nonce token = make_nonce();
  return token;
}

/// What a rank tells the others of its window.
struct WindowOffer {
  std::int32_t failed = 0;  ///< 1: there is no window, `reason` says why
  std::int32_t code = 0;    ///< ErrorCode of the failure
  char reason[512] = {};
  // Must be equal on all ranks.
  std::uint32_t version = kWindowVersion;
  std::int32_t max_experts = 0;
  std::int32_t ranks_per_node = 0;
  std::int32_t mask_lost_ranks = 0;
  // Each rank's own.
  std::int32_t pid = 0;
  Nonce process{};
  std::uint64_t pid_namespace = 0;
  Nonce channel{};    ///< name of the socket, which everyone on this host can see
  Nonce secret{};     ///< proof that a connection is from a rank of the group
  cpu_set_t cores{};  ///< that it may run on
  std::uint64_t bytes = 0;
  const std::shared_ptr<SharedMemory>* memory = nullptr;  ///< for ranks of the same process only
};
static_assert(std::is_trivially_copyable_v<WindowOffer>);

void check_options(const BufferOptions& options, int num_ranks) {
  require(options.arena_bytes > 0,
          "an arena of 0 bytes can receive nothing; get_arena_size_hint says how many bytes an operation needs");
  require(options.timeout.count() >= 0, "the timeout of {} ms is negative", options.timeout.count());
  require(options.setup_timeout.count() >= 0, "the setup timeout of {} ms is negative", options.setup_timeout.count());
  require(options.max_experts >= 1, "max_experts is {}, at least 1 is allowed", options.max_experts);
  require(
      options.ranks_per_node == 0 || options.ranks_per_node >= num_ranks,
      "ranks_per_node is {} for {} ranks: this build has no transport between nodes, so it must be 0 or at least {}",
      options.ranks_per_node, num_ranks, num_ranks);
}

std::shared_ptr<SharedMemory> make_window(const BufferOptions& options, const WindowLayout& layout, int num_ranks) {
  check_options(options, num_ranks);
  const std::size_t bytes = layout.arena_offset() + options.arena_bytes;
  require(bytes > options.arena_bytes, "an arena of {} bytes does not fit the address space", options.arena_bytes);
  auto memory = std::make_shared<SharedMemory>(SharedMemory::create(bytes, options.huge_pages == HugePages::kAuto));
  auto* header = new (memory->data()) WindowHeader;
  header->num_ranks = static_cast<std::uint32_t>(num_ranks);
  for (std::uint64_t i = 0; i < kNumSlots; ++i) new (memory->data() + layout.slot_offset(i)) Slot;
  return memory;
}

void set_failure(WindowOffer& offer, const std::exception& error) {
  const auto* ours = dynamic_cast<const Error*>(&error);
  offer.failed = 1;
  offer.code = static_cast<std::int32_t>(ours != nullptr ? ours->code() : ErrorCode::kCapacity);
  std::strncpy(offer.reason, error.what(), sizeof(offer.reason) - 1);
}

std::vector<WindowOffer> gather_offers(Bootstrap& bootstrap, const WindowOffer& mine, const Deadline& deadline) {
  const auto all = bootstrap.all_gather(std::as_bytes(std::span(&mine, 1)), deadline.left());
  std::vector<WindowOffer> offers(all.size());
  for (std::size_t r = 0; r < all.size(); ++r) {
    if (all[r].size() != sizeof(WindowOffer)) {
      Error error = make_error(ErrorCode::kMismatch, "rank {} offers its window in {} bytes, not {}: another version?",
                               r, all[r].size(), sizeof(WindowOffer));
      throw error.with_rank(static_cast<int>(r));
    }
    std::memcpy(&offers[r], all[r].data(), sizeof(WindowOffer));
  }
  return offers;
}

void check_equal(std::int64_t first, std::int64_t other, std::size_t rank, const char* what) {
  if (first == other) return;
  Error error =
      make_error(ErrorCode::kMismatch, "ranks disagree on {}: rank 0 has {}, rank {} has {}", what, first, rank, other);
  throw error.with_rank(static_cast<int>(rank));
}

/// All ranks see the same offers and so come to the same verdict.
void check_offers(const std::vector<WindowOffer>& offers) {
  for (std::size_t r = 0; r < offers.size(); ++r) {
    if (offers[r].failed == 0) continue;
    Error error(static_cast<ErrorCode>(offers[r].code), fmt::format("rank {}: {}", r, offers[r].reason));
    throw error.with_rank(static_cast<int>(r));
  }
  for (std::size_t r = 1; r < offers.size(); ++r) {
    check_equal(offers[0].version, offers[r].version, r, "the version of the window");
    check_equal(offers[0].max_experts, offers[r].max_experts, r, "BufferOptions::max_experts");
    check_equal(offers[0].ranks_per_node, offers[r].ranks_per_node, r, "BufferOptions::ranks_per_node");
    check_equal(offers[0].mask_lost_ranks, offers[r].mask_lost_ranks, r, "BufferOptions::mask_lost_ranks");
  }
}

/// Ranks may be pinned to a core each: only together do their sets say whether there is a core for every rank.
cpu_set_t union_of_cores(const std::vector<WindowOffer>& offers) {
  cpu_set_t all;
  CPU_ZERO(&all);
  for (const WindowOffer& offer : offers) CPU_OR(&all, &all, &offer.cores);
  return all;
}

class Exchange {
 public:
  Exchange(int rank, const std::vector<WindowOffer>& offers, const SharedMemory& mine, const Deadline& deadline,
           Windows& windows)
      : rank_(rank), offers_(offers), mine_(mine), deadline_(deadline), windows_(windows) {}

  [[nodiscard]] bool is_same_process(int peer) const {
    return offer(peer).pid == ::getpid() && offer(peer).process == process_token();
  }

  /// Every rank connects to the higher ranks and is connected to by the lower ones. Connecting needs no accept on the
  /// other side, so no order of ranks can block.
  void run(const FileDescriptor& listener) {
    std::vector<FileDescriptor> channels(offers_.size());
    for (int peer = rank_ + 1; peer < size(); ++peer) {
      if (is_same_process(peer)) continue;
      auto& channel = channels[static_cast<std::size_t>(peer)];
      channel = connect(peer);
      send_to(peer, channel);
    }
    accept_lower_ranks(listener);
    for (int peer = rank_ + 1; peer < size(); ++peer) {
      if (!is_same_process(peer)) receive_from(peer, channels[static_cast<std::size_t>(peer)]);
    }
  }

  /// From now on the death of those whose processes can be seen is noticed.
  void watch_peers() {
    const std::uint64_t mine = pid_namespace();
    for (int peer = 0; peer < size(); ++peer) {
      if (!is_same_process(peer) && mine != 0 && offer(peer).pid_namespace == mine)
        windows_.watch.add(peer, offer(peer).pid);
    }
  }

 private:
  [[nodiscard]] int size() const { return static_cast<int>(offers_.size()); }
  [[nodiscard]] const WindowOffer& offer(int peer) const { return offers_[static_cast<std::size_t>(peer)]; }

  [[noreturn]] void throw_lost(int peer, std::string_view why) const {
    Error error =
        make_error(ErrorCode::kPeerLost, "rank {}: making the buffer: rank {} {} (phase windows)", rank_, peer, why);
    error.with_wait({.operation = "make buffer", .phase = "windows", .rank = peer});
    throw error.with_rank(peer);
  }

  [[nodiscard]] FileDescriptor connect(int peer) const {
    try {
      return connect_fd_channel(offer(peer).channel);
    } catch (Error& error) {
      if (const int dead = find_dead(); dead >= 0) throw_lost(dead, "died");
      Error named(error.code(), fmt::format("rank {}: rank {}: {}", rank_, peer, error.what()));
      throw named.with_rank(peer);
    }
  }

  /// A connection to `peer` broke. If some rank died, that is the cause, be it that the peer died or that it gave up
  /// because of the death of another. The kernel closes a dying process's sockets a moment before it reports its end.
  [[nodiscard]] int find_dead() const {
    for (const Deadline soon(kCheckInterval); !soon.passed();) {
      for (int peer = 0; peer < size(); ++peer) {
        if (windows_.watch.is_dead(peer)) return peer;
      }
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    return -1;
  }

  [[noreturn]] void throw_gone(int peer, std::string_view why) const {
    const int dead = find_dead();
    throw_lost(dead >= 0 ? dead : peer, dead >= 0 ? "died" : why);
  }

  void receive_from(int peer, const FileDescriptor& channel) {
    try {
      attach(peer, channel, receive_fd(channel, deadline_).fd);
    } catch (Error& error) {
      if (error.code() == ErrorCode::kTimeout) throw error.with_rank(peer);
      throw_gone(peer, "gave up before it passed its window");
    }
  }

  [[nodiscard]] bool is_missing(int peer) const { return windows_.memory[static_cast<std::size_t>(peer)] == nullptr; }

  /// Takes connections until all lower ranks have come. Strangers that connect and say nothing hold up no one.
  void accept_lower_ranks(const FileDescriptor& listener) {
    std::vector<FileDescriptor> silent;  // connections that have not sent anything yet
    while (lowest_missing() >= 0) {
      std::vector<pollfd> polled{{listener.get(), POLLIN, 0}};
      for (const FileDescriptor& channel : silent) polled.push_back({channel.get(), POLLIN, 0});
      ::poll(polled.data(), polled.size(), static_cast<int>(std::min(deadline_.left(), kCheckInterval).count()));
      for (std::size_t i = silent.size(); i-- > 0;) {
        if (polled[i + 1].revents == 0) continue;
        take(silent[i]);
        silent.erase(silent.begin() + static_cast<std::ptrdiff_t>(i));
      }
      if (polled[0].revents != 0) silent.push_back(accept_fd_channel(listener, deadline_));
      check_missing();
    }
  }

  [[nodiscard]] int lowest_missing() const {
    for (int peer = 0; peer < rank_; ++peer) {
      if (is_missing(peer)) return peer;
    }
    return -1;
  }

  void check_missing() const {
    for (int peer = 0; peer < rank_; ++peer) {
      if (is_missing(peer) && windows_.watch.is_dead(peer)) throw_lost(peer, "died");
    }
    if (const int peer = lowest_missing(); peer >= 0 && deadline_.passed()) {
      Error error =
          make_error(ErrorCode::kTimeout, "rank {}: making the buffer: rank {} did not pass its window within {} ms",
                     rank_, peer, deadline_.timeout().count());
      throw error.with_rank(peer);
    }
  }

  /// Takes what a connection sent, if it comes from a rank of this group.
  void take(const FileDescriptor& channel) {
    ReceivedFd received;
    try {
      received = receive_fd(channel, deadline_);
    } catch (const Error& error) {
      logger().warn("refused a connection to the window of rank {}: {}", rank_, error.what());
      return;
    }
    const int peer = received.message.rank;
    if (received.message.nonce != offer(rank_).secret || peer < 0 || peer >= rank_ || !is_missing(peer)) {
      logger().warn("refused a connection to the window of rank {}: not from a rank of its group", rank_);
      return;
    }
    send_to(peer, channel);
    attach(peer, channel, std::move(received.fd));
  }

  void send_to(int peer, const FileDescriptor& channel) const {
    try {
      send_fd(channel, {offer(peer).secret, rank_}, mine_.fd());
    } catch (const Error&) {
      throw_gone(peer, "gave up before it took the window of this rank");
    }
  }

  void attach(int peer, const FileDescriptor& channel, FileDescriptor fd) {
    windows_.memory[static_cast<std::size_t>(peer)] =
        std::make_shared<SharedMemory>(SharedMemory::attach(std::move(fd), offer(peer).bytes));
    windows_.watch.add(peer, credentials_of(channel).pid);
  }

  int rank_;
  const std::vector<WindowOffer>& offers_;
  const SharedMemory& mine_;
  const Deadline& deadline_;
  Windows& windows_;
};

}  // namespace

Windows exchange_windows(Bootstrap& bootstrap, const BufferOptions& options, const Deadline& deadline) {
  const int rank = bootstrap.rank();
  const int num_ranks = bootstrap.size();
  const auto own = static_cast<std::size_t>(rank);
  Windows windows{rank, WindowLayout(num_ranks, options.max_experts),
                  std::vector<std::shared_ptr<SharedMemory>>(static_cast<std::size_t>(num_ranks)),
                  PeerWatch(num_ranks)};

  WindowOffer mine;
  FileDescriptor listener;
  try {
    windows.memory[own] = make_window(options, windows.layout, num_ranks);
    mine.channel = make_nonce();
    listener = listen_fd_channel(mine.channel, num_ranks);
    mine.max_experts = options.max_experts;
    mine.ranks_per_node = options.ranks_per_node;
    mine.mask_lost_ranks = options.mask_lost_ranks ? 1 : 0;
    mine.secret = make_nonce();
    mine.pid_namespace = pid_namespace();
    mine.pid = ::getpid();
    mine.process = process_token();
    mine.cores = allowed_cores();
    mine.bytes = windows.memory[own]->size();
    mine.memory = &windows.memory[own];
  } catch (const std::exception& error) {
    set_failure(mine, error);
  }
  const auto offers = gather_offers(bootstrap, mine, deadline);
  check_offers(offers);
  windows.usable_cores = usable_cores(union_of_cores(offers));
  windows.mask_lost_ranks = options.mask_lost_ranks;

  Exchange exchange(rank, offers, *windows.memory[own], deadline, windows);
  for (int peer = 0; peer < num_ranks; ++peer) {
    if (peer == rank || !exchange.is_same_process(peer)) continue;
    windows.memory[static_cast<std::size_t>(peer)] = *offers[static_cast<std::size_t>(peer)].memory;
  }
  exchange.watch_peers();
  exchange.run(listener);
  bootstrap.barrier(deadline.left());  // now no rank needs another's pointer or socket any more
  return windows;
}

}  // namespace crossdock::host
