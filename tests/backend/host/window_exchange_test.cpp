// Passing windows between processes, with strangers at the door, and with threads among the processes.
#include "backend/host/window_exchange.hpp"

#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <gtest/gtest.h>

#include <chrono>
#include <cstring>
#include <fstream>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "backend/host/fd_channel.hpp"
#include "base/error.hpp"
#include "bootstrap/free_port.hpp"
#include "support/ranks.hpp"

namespace crossdock::host {
namespace {

using crossdock::testing::ExitStatus;
using crossdock::testing::run_as_processes;
using crossdock::testing::run_as_threads;

BufferOptions small_options() {
  BufferOptions options;
  options.arena_bytes = 4096;
  options.max_experts = 8;
  options.huge_pages = HugePages::kNever;
  return options;
}

/// Every rank writes a word into each peer's arena; after a barrier each must find all of them in its own.
void check_windows(Bootstrap& bootstrap, const Windows& windows) {
  const auto word = [&](int rank, int index) {
    return reinterpret_cast<std::int32_t*>(windows.data(rank) + windows.layout.arena_offset()) + index;
  };
  for (int peer = 0; peer < windows.num_ranks(); ++peer) *word(peer, windows.rank) = 100 + windows.rank;
  bootstrap.barrier(Milliseconds(10'000));
  for (int peer = 0; peer < windows.num_ranks(); ++peer) {
    if (*word(windows.rank, peer) != 100 + peer) throw std::runtime_error("a peer's word is missing");
    if (windows.header(peer).magic != kWindowMagic) throw std::runtime_error("not a window");
    if (windows.watch.is_dead(peer)) throw std::runtime_error("a living rank seems dead");
  }
  bootstrap.barrier(Milliseconds(10'000));
}

void exchange_and_check(Bootstrap& bootstrap) {
  const BufferOptions options = small_options();
  check_windows(bootstrap, exchange_windows(bootstrap, options, Deadline(Milliseconds(20'000))));
}

TEST(WindowExchange, BetweenThreads) {
  run_as_threads(4, [](const std::shared_ptr<Bootstrap>& bootstrap) { exchange_and_check(*bootstrap); });
}

TEST(WindowExchange, BetweenProcesses) {
  const auto statuses =
      run_as_processes(5, [](const std::shared_ptr<Bootstrap>& bootstrap) { exchange_and_check(*bootstrap); });
  for (const ExitStatus& status : statuses) EXPECT_EQ(status, ExitStatus{});
}

TEST(WindowExchange, BetweenThreadsOfTwoProcesses) {
  const bootstrap_test::FreePort port;
  const auto statuses = run_as_processes(2, [&](const std::shared_ptr<Bootstrap>& process) {
    std::vector<std::string> failures(2);
    std::vector<std::thread> threads;
    for (int thread = 0; thread < 2; ++thread) {
      threads.emplace_back([&, thread] {
        TcpBootstrapOptions options;
        options.port = port.number();
        options.rank = 2 * thread + process->rank();  // neighbours are in different processes
        options.size = 4;
        try {
          exchange_and_check(*make_tcp_bootstrap(options));
        } catch (const std::exception& error) {
          failures[static_cast<std::size_t>(thread)] = error.what();
        }
      });
    }
    for (std::thread& thread : threads) thread.join();
    for (const std::string& failure : failures) {
      if (!failure.empty()) throw std::runtime_error(failure);
    }
  });
  for (const ExitStatus& status : statuses) EXPECT_EQ(status, ExitStatus{});
}

/// Connections to all windows' sockets that can be seen on this host: one stays silent, one sends garbage, one the
/// right number of bytes with a descriptor but without the secret.
class Strangers {
 public:
  void connect_to_all() {
    std::ifstream sockets("/proc/net/unix");
    for (std::string line; std::getline(sockets, line);) {
      const std::size_t at = line.find("@crossdock-");
      if (at == std::string::npos) continue;
      const std::string name = line.substr(at + 1);
      connect_to(name);
      if (connect_to(name)) static_cast<void>(::send(connections_.back().get(), "garbage", 7, MSG_NOSIGNAL));
      if (connect_to(name)) send_fd(connections_.back(), {Nonce{}, 0}, connections_.back().get());
    }
  }
  [[nodiscard]] bool found_any() const { return !connections_.empty(); }

 private:
  bool connect_to(const std::string& name) {
    FileDescriptor socket(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::memcpy(address.sun_path + 1, name.data(), name.size());
    const auto length = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + name.size());
    if (::connect(socket.get(), reinterpret_cast<const sockaddr*>(&address), length) != 0) return false;
    connections_.push_back(std::move(socket));
    return true;
  }

  std::vector<FileDescriptor> connections_;
};

/// Lets strangers in between the offers of windows and their exchange.
class BesetBootstrap final : public Bootstrap {
 public:
  explicit BesetBootstrap(Bootstrap& real) : real_(real) {}
  [[nodiscard]] int rank() const noexcept override { return real_.rank(); }
  [[nodiscard]] int size() const noexcept override { return real_.size(); }
  [[nodiscard]] std::vector<Bytes> all_gather(std::span<const std::byte> mine, Milliseconds timeout) override {
    auto result = real_.all_gather(mine, timeout);
    if (rank() == 0) strangers_.connect_to_all();
    if (rank() == 0 && !strangers_.found_any()) throw std::runtime_error("no sockets were found");
    real_.barrier(timeout);
    return result;
  }
  void barrier(Milliseconds timeout) override { real_.barrier(timeout); }

 private:
  Bootstrap& real_;
  Strangers strangers_;
};

TEST(WindowExchange, StrangersDoNotDisturb) {
  const auto statuses = run_as_processes(3, [](const std::shared_ptr<Bootstrap>& bootstrap) {
    BesetBootstrap beset(*bootstrap);
    const auto begin = std::chrono::steady_clock::now();
    exchange_and_check(beset);
    if (std::chrono::steady_clock::now() - begin > Milliseconds(2000)) throw std::runtime_error("strangers held it up");
  });
  for (const ExitStatus& status : statuses) EXPECT_EQ(status, ExitStatus{});
}

}  // namespace
}  // namespace crossdock::host
