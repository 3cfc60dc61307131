#include "bootstrap/socket.hpp"

#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <limits>
#include <memory>
#include <system_error>

#include <fmt/format.h>

#include "base/error.hpp"

namespace crossdock::bootstrap {

namespace {

std::string text_of(int error) { return std::generic_category().message(error); }

const sockaddr* native_of(const SocketAddress& address) {
  return reinterpret_cast<const sockaddr*>(address.native.data());  // NOLINT: the sockets interface asks for it
}

SocketAddress make_address(const sockaddr* native, socklen_t length) {
  SocketAddress result;
  result.native.resize(length);
  std::memcpy(result.native.data(), native, length);
  std::array<char, NI_MAXHOST> host{};
  std::array<char, NI_MAXSERV> port{};
  const int error = ::getnameinfo(native, length, host.data(), host.size(), port.data(), port.size(),
                                  NI_NUMERICHOST | NI_NUMERICSERV);
  const bool bracketed = native->sa_family == AF_INET6;
  result.text = error != 0
                    ? "unknown address"
                    : fmt::format("{}{}{}:{}", bracketed ? "[" : "", host.data(), bracketed ? "]" : "", port.data());
  return result;
}

using AddressCall = int (*)(int, sockaddr*, socklen_t*);

/// One end of a connected socket: `call` is getsockname or getpeername.
SocketAddress end_of(const FileDescriptor& socket, AddressCall call) {
  sockaddr_storage native{};
  socklen_t length = sizeof(native);
  auto* generic = reinterpret_cast<sockaddr*>(&native);  // NOLINT: the sockets interface asks for it
  if (call(socket.get(), generic, &length) != 0) return {};
  return make_address(generic, std::min<socklen_t>(length, sizeof(native)));
}

bool is_loopback(const SocketAddress& address) {
  if (address.family() == AF_INET) {
    sockaddr_in native{};
    std::memcpy(&native, address.native.data(), sizeof(native));
    return (ntohl(native.sin_addr.s_addr) >> 24U) == 127;
  }
  sockaddr_in6 native{};
  std::memcpy(&native, address.native.data(), std::min(sizeof(native), address.native.size()));
  return address.family() == AF_INET6 && IN6_IS_ADDR_LOOPBACK(&native.sin6_addr);  // NOLINT: the system's macro
}

/// Only for literals and "localhost": a host's own name often stands for 127.0.1.1 there, and for another address
/// elsewhere.
bool means_loopback(const std::string& host, const SocketAddress& first) {
  const bool literal = first.text.starts_with(host + ":") || first.text.starts_with("[" + host + "]:");
  return (literal || host == "localhost") && is_loopback(first);
}

void set_option(const FileDescriptor& socket, int level, int option, int value) {
  static_cast<void>(::setsockopt(socket.get(), level, option, &value, sizeof(value)));
}

FileDescriptor open_socket(int family) {
  return FileDescriptor(::socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, IPPROTO_TCP));
}

/// errno, or 0 with `socket` listening.
int try_listen(const SocketAddress& address, FileDescriptor& socket) {
  constexpr int kBacklog = 1024;
  socket = open_socket(address.family());
  if (!socket.valid()) return errno;
  // A group may be made again at the port of one that has just gone.
  set_option(socket, SOL_SOCKET, SO_REUSEADDR, 1);
  if (address.family() == AF_INET6) set_option(socket, IPPROTO_IPV6, IPV6_V6ONLY, 0);
  if (::bind(socket.get(), native_of(address), static_cast<socklen_t>(address.native.size())) != 0) return errno;
  return ::listen(socket.get(), kBacklog) != 0 ? errno : 0;
}

std::vector<SocketAddress> addresses_to_listen_at(const std::string& host, std::uint16_t port) {
  std::string error;
  auto addresses = resolve(host, port, error);
  if (!addresses.empty() && means_loopback(host, addresses.front())) return addresses;
  sockaddr_in6 any6{};
  any6.sin6_family = AF_INET6;
  any6.sin6_port = htons(port);
  sockaddr_in any4{};
  any4.sin_family = AF_INET;
  any4.sin_port = htons(port);
  return {make_address(reinterpret_cast<const sockaddr*>(&any6), sizeof(any6)),   // NOLINT
          make_address(reinterpret_cast<const sockaddr*>(&any4), sizeof(any4))};  // NOLINT
}

}  // namespace

int SocketAddress::family() const noexcept { return native.empty() ? AF_UNSPEC : native_of(*this)->sa_family; }

std::vector<SocketAddress> resolve(const std::string& host, std::uint16_t port, std::string& error) {
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_NUMERICSERV;
  addrinfo* list = nullptr;
  const int code = ::getaddrinfo(host.c_str(), std::to_string(port).c_str(), &hints, &list);
  if (code != 0) {
    error = fmt::format("cannot resolve \"{}\": {}", host, code == EAI_SYSTEM ? text_of(errno) : ::gai_strerror(code));
    return {};
  }
  const std::unique_ptr<addrinfo, decltype(&::freeaddrinfo)> owner(list, &::freeaddrinfo);
  std::vector<SocketAddress> result;
  for (const addrinfo* entry = list; entry != nullptr; entry = entry->ai_next) {
    result.push_back(make_address(entry->ai_addr, entry->ai_addrlen));
  }
  return result;
}

FileDescriptor listen_at(const std::string& host, std::uint16_t port) {
  int error = 0;
  std::string where;
  for (const SocketAddress& address : addresses_to_listen_at(host, port)) {
    FileDescriptor socket;
    error = try_listen(address, socket);
    if (error == 0) return socket;
    where = address.text;
    // Another family is no way out of a port that is taken: peers would reach whoever took it.
    if (error != EAFNOSUPPORT && error != EADDRNOTAVAIL) break;
  }
  const std::string_view hint =
      error == EADDRINUSE ? "; another program has it, perhaps the launcher itself (torchrun): choose another" : "";
  throw make_error(ErrorCode::kBootstrap, "rank 0 cannot listen at port {} ({}): {}{}", port, where, text_of(error),
                   hint)
      .with_rank(0)
      .with_system_error(error);
}

Accepted accept_from(const FileDescriptor& listener) {
  Accepted result;
  result.socket = FileDescriptor(::accept4(listener.get(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
  if (!result.socket.valid()) {
    const bool no_room = errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM;
    result.error = no_room ? errno : 0;
    return result;
  }
  set_option(result.socket, IPPROTO_TCP, TCP_NODELAY, 1);
  result.address = end_of(result.socket, ::getpeername).text;
  return result;
}

FileDescriptor connect_to(const SocketAddress& address, const Deadline& deadline, std::string& error) {
  FileDescriptor socket = open_socket(address.family());
  const auto failed = [&](int number) {
    error = fmt::format("{}: {}", address.text, text_of(number));
    return FileDescriptor();
  };
  if (!socket.valid()) return failed(errno);
  set_option(socket, IPPROTO_TCP, TCP_NODELAY, 1);
  if (::connect(socket.get(), native_of(address), static_cast<socklen_t>(address.native.size())) != 0 &&
      errno != EINPROGRESS && errno != EINTR) {
    return failed(errno);
  }
  pollfd writable{socket.get(), POLLOUT, 0};
  if (!poll_until({&writable, 1}, deadline)) return failed(ETIMEDOUT);
  int outcome = 0;
  socklen_t length = sizeof(outcome);
  if (::getsockopt(socket.get(), SOL_SOCKET, SO_ERROR, &outcome, &length) != 0) return failed(errno);
  if (outcome != 0) return failed(outcome);
  // While nobody listens at an ephemeral port, the kernel may connect a socket to itself.
  if (end_of(socket, ::getsockname).native == end_of(socket, ::getpeername).native) return failed(ECONNREFUSED);
  return socket;
}

bool poll_until(std::span<pollfd> descriptors, const Deadline& deadline) {
  constexpr std::int64_t kLongest = std::numeric_limits<int>::max();
  while (true) {
    const int timeout = static_cast<int>(std::min<std::int64_t>(deadline.left().count(), kLongest));
    const int ready = ::poll(descriptors.data(), descriptors.size(), timeout);
    if (ready > 0) return true;
    if (ready < 0 && errno != EINTR) throw system_error("poll");
    if (ready == 0 && deadline.passed()) return false;
    if (ready < 0 && deadline.passed()) return false;
  }
}

}  // namespace crossdock::bootstrap
