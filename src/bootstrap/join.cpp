#include "bootstrap/join.hpp"

#include <algorithm>
#include <string>
#include <thread>
#include <utility>

#include "base/error.hpp"
#include "bootstrap/handshake.hpp"
#include "bootstrap/socket.hpp"

namespace crossdock::bootstrap {

namespace {

using std::chrono::milliseconds;

constexpr milliseconds kFirstPause{5};
constexpr milliseconds kLongestPause{250};
/// For one of several addresses; a silent one must not use up the time for the others.
constexpr milliseconds kAddressPatience{10'000};

[[noreturn]] void refused(const TcpBootstrapOptions& options, const SocketAddress& address, std::string_view reason) {
  throw make_error(ErrorCode::kBootstrap, "rank {} cannot join rank 0 at {}: {}", options.rank, address.text, reason)
      .with_rank(options.rank);
}

/// Sends what is unsent and returns the next frame; nothing if the connection or the time came to an end.
std::optional<Frame> next_frame(Connection& connection, const Deadline& deadline) {
  while (true) {
    connection.flush();
    if (auto frame = connection.receive()) return frame;
    pollfd entry = connection.poll_entry();
    if (connection.end() || deadline.passed() || !poll_until({&entry, 1}, deadline)) return std::nullopt;
  }
}

/// Whether rank 0 accepted. If it said nothing, this attempt was in vain and `error` says why.
bool shake_hands(Connection& connection, const SocketAddress& address, const TcpBootstrapOptions& options,
                 const SecretKey* key, const Deadline& deadline, std::string& error) {
  MemberHandshake handshake(options.rank, options.size, key);
  connection.send(handshake.hello());
  try {
    while (const auto frame = next_frame(connection, deadline)) {
      HandshakeStep step = handshake.receive(*frame);
      if (!step.refusal.empty()) refused(options, address, step.refusal);
      if (step.accepted) {
        connection.reader().set_phase(Phase::kGroup);
        return true;
      }
      connection.send(std::move(step.reply));
    }
  } catch (const Error& failure) {
    if (failure.code() != ErrorCode::kFormat) throw;
    refused(options, address, std::string("it sent ") + failure.what());
  }
  error = address.text + (connection.end() ? ": the other side " + *connection.end() : ": connected, but no answer");
  return false;
}

std::unique_ptr<Connection> try_address(const SocketAddress& address, const TcpBootstrapOptions& options,
                                        const SecretKey* key, const Deadline& deadline, std::string& error) {
  const Deadline attempt(std::min(deadline.left(), kAddressPatience));
  FileDescriptor socket = connect_to(address, attempt, error);
  if (!socket.valid()) return nullptr;
  auto connection = std::make_unique<Connection>(std::move(socket), address.text);
  return shake_hands(*connection, address, options, key, attempt, error) ? std::move(connection) : nullptr;
}

}  // namespace

std::unique_ptr<Connection> join(const TcpBootstrapOptions& options, const SecretKey* key, const Deadline& deadline) {
  std::string error = "no attempt was made";
  milliseconds pause = kFirstPause;
  while (!deadline.passed()) {
    for (const SocketAddress& address : resolve(options.address, options.port, error)) {
      if (auto connection = try_address(address, options, key, deadline, error)) return connection;
    }
    std::this_thread::sleep_for(std::min(pause, deadline.left()));
    pause = std::min(pause * 2, kLongestPause);
  }
  throw make_error(ErrorCode::kTimeout, "bootstrap rendezvous: rank {} could not join rank 0 at {}:{} within {} ms: {}",
                   options.rank, options.address, options.port, deadline.timeout().count(), error)
      .with_wait({.operation = "bootstrap",
                  .phase = "rendezvous",
                  .rank = 0,
                  .expected = static_cast<std::uint64_t>(options.size)});
}

}  // namespace crossdock::bootstrap
