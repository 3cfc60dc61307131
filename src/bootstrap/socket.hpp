// TCP sockets as the rendezvous needs them: non-blocking, close-on-exec, IPv4 and IPv6.
#pragma once

#include <poll.h>

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/deadline.hpp"
#include "base/file_descriptor.hpp"

namespace crossdock::bootstrap {

/// An address as the system gives it, with its text for messages.
struct SocketAddress {
  std::vector<std::byte> native;  ///< a sockaddr of some family
  std::string text;               ///< "10.0.0.1:29500" or "[::1]:29500"

  [[nodiscard]] int family() const noexcept;
};

/// Every address of `host`; empty with the reason in `error` if it has none.
[[nodiscard]] std::vector<SocketAddress> resolve(const std::string& host, std::uint16_t port, std::string& error);

/// A listening socket for rank 0 (docs/bootstrap.md says on which addresses). Throws kBootstrap with errno's text.
[[nodiscard]] FileDescriptor listen_at(const std::string& host, std::uint16_t port);

struct Accepted {
  FileDescriptor socket;  ///< not valid if nobody was waiting
  std::string address;
  int error = 0;  ///< errno if the process or the system has no room for another connection
};
[[nodiscard]] Accepted accept_from(const FileDescriptor& listener);

/// Not valid, with the reason in `error`, if no connection came about in time.
[[nodiscard]] FileDescriptor connect_to(const SocketAddress& address, const Deadline& deadline, std::string& error);

/// poll() until something is ready or the deadline has passed (then false). Takes care of EINTR. Throws kSystem.
[[nodiscard]] bool poll_until(std::span<pollfd> descriptors, const Deadline& deadline);

}  // namespace crossdock::bootstrap
