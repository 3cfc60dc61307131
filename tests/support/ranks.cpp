#include "support/ranks.hpp"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <exception>
#include <stdexcept>
#include <string>
#include <thread>

#include "base/error.hpp"
#include "base/file_descriptor.hpp"

namespace crossdock::testing {

namespace {

/// A port that the kernel had to give a moment ago. Another program may take it before rank 0 listens, which then
/// fails.
std::uint16_t find_free_port() {
  const FileDescriptor socket(::socket(AF_INET, SOCK_STREAM, 0));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t length = sizeof(address);
  auto* const generic = reinterpret_cast<sockaddr*>(&address);  // NOLINT: what the socket interface asks for
  if (!socket.valid() || ::bind(socket.get(), generic, length) != 0 ||
      ::getsockname(socket.get(), generic, &length) != 0) {
    throw system_error("looking for a free port");
  }
  return ntohs(address.sin_port);
}

[[noreturn]] void run_child(pid_t parent, const TcpBootstrapOptions& options, const RankBody& body) {
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (::getppid() != parent) ::_exit(kNoBootstrap);  // it had died before that took effect
  int code = kNoBootstrap;
  try {
    const std::shared_ptr<Bootstrap> bootstrap = make_tcp_bootstrap(options);
    code = kBodyThrew;
    body(bootstrap);
    code = 0;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "rank %d: %s\n", options.rank, error.what());
  }
  std::fflush(nullptr);
  ::_exit(code);
}

ExitStatus wait_for(pid_t child) {
  int status = 0;
  while (::waitpid(child, &status, 0) < 0) {
    if (errno != EINTR) throw system_error("waitpid");
  }
  if (WIFSIGNALED(status)) return {.code = 0, .signal = WTERMSIG(status)};
  return {.code = WEXITSTATUS(status), .signal = 0};
}

}  // namespace

void run_as_threads(int num_ranks, const RankBody& body) {
  const auto bootstraps = make_in_process_bootstraps(num_ranks);
  std::vector<std::string> failures(bootstraps.size());
  std::vector<std::thread> threads;
  for (std::size_t rank = 0; rank < bootstraps.size(); ++rank) {
    threads.emplace_back([&, rank] {
      try {
        body(bootstraps[rank]);
      } catch (const std::exception& error) {
        failures[rank] = "rank " + std::to_string(rank) + ": " + error.what() + "\n";
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  std::string text;
  for (const std::string& failure : failures) text += failure;
  if (!text.empty()) throw std::runtime_error(text);
}

std::vector<ExitStatus> run_as_processes(int num_ranks, const RankBody& body) {
  TcpBootstrapOptions options{.port = find_free_port(), .size = num_ranks, .secret = {}};
  const pid_t parent = ::getpid();
  std::fflush(nullptr);  // or children would write out what is buffered now
  std::vector<pid_t> children;
  for (options.rank = 0; options.rank < num_ranks; ++options.rank) {
    const pid_t child = ::fork();
    if (child == 0) run_child(parent, options, body);
    if (child < 0) {
      const int error = errno;
      for (const pid_t started : children) ::kill(started, SIGKILL);
      for (const pid_t started : children) (void)wait_for(started);
      throw system_error("fork", error);
    }
    children.push_back(child);
  }
  std::vector<ExitStatus> result;
  for (const pid_t child : children) result.push_back(wait_for(child));
  return result;
}

}  // namespace crossdock::testing
