#include "bootstrap/free_port.hpp"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include "base/error.hpp"

namespace crossdock::bootstrap_test {

FreePort::FreePort() : socket_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
  const int yes = 1;
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t length = sizeof(address);
  auto* native = reinterpret_cast<sockaddr*>(&address);  // NOLINT: the sockets interface asks for it
  if (::setsockopt(socket_.get(), SOL_SOCKET, SO_REUSEADDR, &yes, sizeof(yes)) != 0 ||
      ::bind(socket_.get(), native, length) != 0 || ::getsockname(socket_.get(), native, &length) != 0) {
    throw system_error("binding a socket to a free port");
  }
  number_ = ntohs(address.sin_port);
}

}  // namespace crossdock::bootstrap_test
