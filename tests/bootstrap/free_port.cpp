#include "bootstrap/free_port.hpp"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include "base/error.hpp"

namespace crossdock::bootstrap_test {

namespace {

/// The port that the kernel chose, or 0 if the address does not exist here.
template <typename Native>
std::uint16_t bind_somewhere(const FileDescriptor& socket, Native address, in_port_t Native::*port) {
  const int yes = 1;
  socklen_t length = sizeof(address);
  auto* generic = reinterpret_cast<sockaddr*>(&address);  // NOLINT: the sockets interface asks for it
  if (::setsockopt(socket.get(), SOL_SOCKET, SO_REUSEADDR, &yes, sizeof(yes)) != 0) return 0;
  if (::bind(socket.get(), generic, length) != 0 || ::getsockname(socket.get(), generic, &length) != 0) return 0;
  return ntohs(address.*port);
}

}  // namespace

FreePort::FreePort(bool ipv6) : socket_(::socket(ipv6 ? AF_INET6 : AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
  if (ipv6) {
    sockaddr_in6 address{};
    address.sin6_family = AF_INET6;
    address.sin6_addr = in6addr_loopback;
    number_ = bind_somewhere(socket_, address, &sockaddr_in6::sin6_port);
    return;
  }
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  number_ = bind_somewhere(socket_, address, &sockaddr_in::sin_port);
  if (!available()) throw system_error("binding a socket to a free port");
}

}  // namespace crossdock::bootstrap_test
