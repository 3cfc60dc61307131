#include "crossdock/rank_processes.hpp"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/random.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <chrono>

#include <fmt/ranges.h>

#include "base/deadline.hpp"
#include "base/error.hpp"
#include "crossdock/child_process.hpp"

namespace crossdock::tool {

namespace {

using namespace std::chrono_literals;

/// A loopback port that is free now. Another program may take it before rank 0 does; the bootstrap then says so.
std::uint16_t find_free_port() {
  const FileDescriptor socket(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!socket.valid()) throw system_error("cannot make a socket");
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t length = sizeof(address);
  auto* generic = reinterpret_cast<sockaddr*>(&address);  // NOLINT: the socket interface
  if (::bind(socket.get(), generic, length) != 0 || ::getsockname(socket.get(), generic, &length) != 0) {
    throw system_error("cannot find a free port of the loopback interface");
  }
  return ntohs(address.sin_port);
}

/// So that no other program of this machine can join the group.
std::string make_secret() {
  std::array<unsigned char, 32> random{};
  if (::getrandom(random.data(), random.size(), 0) != static_cast<ssize_t>(random.size())) {
    throw system_error("cannot get random bytes");
  }
  return fmt::format("{:02x}", fmt::join(random, ""));
}

/// All ranks from start to end.
class ProcessGroup {
 public:
  ProcessGroup(const LaunchOptions& options, const RankBody& body) : options_(options), deadline_(options.timeout) {
    TcpBootstrapOptions bootstrap;
    bootstrap.port = find_free_port();
    bootstrap.size = options.num_ranks;
    bootstrap.secret = make_secret();
    bootstrap.timeout = options.timeout;
    children_.reserve(static_cast<std::size_t>(options.num_ranks));
    for (int rank = 0; rank < options.num_ranks; ++rank) {
      bootstrap.rank = rank;
      children_.emplace_back(rank, [&] { body(make_tcp_bootstrap(bootstrap)); });
    }
  }

  std::vector<RankFailure> wait() {
    while (any_running()) {
      poll_once();
      if (options_.while_waiting) options_.while_waiting();
      if (!stopping_ && (deadline_.passed() || (grace_ && grace_->passed()))) stop();
    }
    return std::move(failures_);
  }

 private:
  [[nodiscard]] bool any_running() const {
    return std::any_of(children_.begin(), children_.end(), [](const auto& child) { return child.running(); });
  }

  void poll_once() {
    constexpr std::chrono::milliseconds kTick = 50ms;
    std::vector<pollfd> waits;
    std::vector<ChildProcess*> running;
    for (auto& child : children_) {
      if (!child.running()) continue;
      waits.push_back({child.fd(), POLLIN, 0});
      running.push_back(&child);
    }
    if (::poll(waits.data(), waits.size(), static_cast<int>(kTick.count())) <= 0) return;
    for (std::size_t i = 0; i < waits.size(); ++i) {
      if (waits[i].revents != 0) running[i]->read();
      if (!running[i]->running()) take_failure(*running[i]);
    }
  }

  void take_failure(const ChildProcess& child) {
    constexpr std::chrono::milliseconds kGrace = 2s;
    if (!child.failure() || stopping_) return;
    failures_.push_back(*child.failure());
    if (!grace_) grace_.emplace(kGrace);
  }

  void stop() {
    if (failures_.empty()) failures_.push_back({-1, ErrorCode::kTimeout, describe_late_ranks()});
    stopping_ = true;
    for (auto& child : children_) child.kill();
  }

  [[nodiscard]] std::string describe_late_ranks() const {
    std::vector<int> late;
    for (const auto& child : children_) {
      if (child.running()) late.push_back(child.rank());
    }
    return fmt::format("{} of {} ranks did not end within {} ms: {}", late.size(), children_.size(),
                       options_.timeout.count(), fmt::join(late, ", "));
  }

  const LaunchOptions& options_;
  Deadline deadline_;
  std::optional<Deadline> grace_;
  std::vector<ChildProcess> children_;
  std::vector<RankFailure> failures_;
  bool stopping_ = false;
};

}  // namespace

std::vector<RankFailure> run_rank_processes(const LaunchOptions& options, const RankBody& body) {
  return ProcessGroup(options, body).wait();
}

}  // namespace crossdock::tool
