#include "backend/host/fd_channel.hpp"

#include <poll.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstring>

#include "base/error.hpp"

namespace crossdock::host {

namespace {

struct Address {
  sockaddr_un un{};
  socklen_t length = 0;
};

/// Abstract name: a zero byte, then text.
Address address_of(const Nonce& nonce) {
  std::string name = "crossdock-";
  for (const std::uint8_t byte : nonce) name += fmt::format("{:02x}", byte);
  Address result;
  result.un.sun_family = AF_UNIX;
  std::memcpy(result.un.sun_path + 1, name.data(), name.size());
  result.length = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + name.size());
  return result;
}

FileDescriptor make_socket() {
  FileDescriptor fd(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
  if (!fd.valid()) throw system_error("a Unix socket");
  return fd;
}

void wait_readable(const FileDescriptor& fd, const Deadline& deadline, const char* what) {
  for (;;) {
    pollfd entry{fd.get(), POLLIN, 0};
    constexpr std::chrono::milliseconds kLongestPoll{60'000};  // poll takes an int
    const int ready = ::poll(&entry, 1, static_cast<int>(std::min(deadline.left(), kLongestPoll).count()));
    if (ready > 0) return;
    if (ready == 0 && deadline.passed()) {
      throw make_error(ErrorCode::kTimeout, "{} did not come within {} ms", what, deadline.timeout().count());
    }
    if (ready < 0 && errno != EINTR) throw system_error("poll");
  }
}

/// Room for one descriptor, aligned as the kernel wants it.
union ControlBuffer {
  char bytes[CMSG_SPACE(sizeof(int))];
  cmsghdr align;
};

}  // namespace

Nonce make_nonce() {
  Nonce nonce;
  if (::getrandom(nonce.data(), nonce.size(), 0) != static_cast<ssize_t>(nonce.size())) throw system_error("getrandom");
  return nonce;
}

FileDescriptor listen_fd_channel(const Nonce& nonce, int backlog) {
  FileDescriptor fd = make_socket();
  const Address address = address_of(nonce);
  if (::bind(fd.get(), reinterpret_cast<const sockaddr*>(&address.un), address.length) != 0) {
    throw system_error("bind of a Unix socket");
  }
  if (::listen(fd.get(), backlog) != 0) throw system_error("listen on a Unix socket");
  return fd;
}

FileDescriptor connect_fd_channel(const Nonce& nonce) {
  FileDescriptor fd = make_socket();
  const Address address = address_of(nonce);
  while (::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address.un), address.length) != 0) {
    const int refused = errno;
    if (refused == EINTR) continue;
    Error error =
        make_error(ErrorCode::kBootstrap,
                   "no connection to the rank's Unix socket ({}); ranks of one node must run on one host and in "
                   "one network namespace",
                   std::strerror(refused));  // NOLINT(concurrency-mt-unsafe)
    throw error.with_system_error(refused);
  }
  return fd;
}

FileDescriptor accept_fd_channel(const FileDescriptor& listener, const Deadline& deadline) {
  for (;;) {
    wait_readable(listener, deadline, "the connection of another rank of this host");
    FileDescriptor fd(::accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
    if (fd.valid()) return fd;
    if (errno != EINTR && errno != ECONNABORTED) throw system_error("accept on a Unix socket");
  }
}

void send_fd(const FileDescriptor& channel, const FdMessage& message, int fd) {
  FdMessage body = message;
  iovec part{&body, sizeof(body)};
  ControlBuffer control{};
  msghdr header{};
  header.msg_iov = &part;
  header.msg_iovlen = 1;
  header.msg_control = control.bytes;
  header.msg_controllen = sizeof(control.bytes);
  cmsghdr* rights = CMSG_FIRSTHDR(&header);
  rights->cmsg_level = SOL_SOCKET;
  rights->cmsg_type = SCM_RIGHTS;
  rights->cmsg_len = CMSG_LEN(sizeof(int));
  std::memcpy(CMSG_DATA(rights), &fd, sizeof(int));
  while (::sendmsg(channel.get(), &header, MSG_NOSIGNAL) < 0) {
    if (errno != EINTR) throw system_error("sending a window to another rank");
  }
}

ReceivedFd receive_fd(const FileDescriptor& channel, const Deadline& deadline) {
  ReceivedFd result;
  iovec part{&result.message, sizeof(result.message)};
  ControlBuffer control{};
  msghdr header{};
  header.msg_iov = &part;
  header.msg_iovlen = 1;
  header.msg_control = control.bytes;
  header.msg_controllen = sizeof(control.bytes);
  ssize_t received = -1;
  do {
    wait_readable(channel, deadline, "the window of another rank");
    received = ::recvmsg(channel.get(), &header, MSG_CMSG_CLOEXEC);
  } while (received < 0 && errno == EINTR);
  if (received < 0) throw system_error("receiving a window of another rank");
  const cmsghdr* rights = CMSG_FIRSTHDR(&header);
  if (rights != nullptr && rights->cmsg_type == SCM_RIGHTS && rights->cmsg_len == CMSG_LEN(sizeof(int))) {
    int fd = -1;
    std::memcpy(&fd, CMSG_DATA(rights), sizeof(int));
    result.fd = FileDescriptor(fd);
  }
  if (received != static_cast<ssize_t>(sizeof(FdMessage)) || !result.fd.valid()) {
    throw make_error(ErrorCode::kBootstrap, "another rank closed its connection before it passed its window");
  }
  return result;
}

PeerCredentials credentials_of(const FileDescriptor& channel) {
  ucred credentials{};
  socklen_t length = sizeof(credentials);
  if (::getsockopt(channel.get(), SOL_SOCKET, SO_PEERCRED, &credentials, &length) != 0) {
    throw system_error("SO_PEERCRED");
  }
  return {credentials.pid, credentials.uid};
}

}  // namespace crossdock::host
