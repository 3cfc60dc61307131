// Passing file descriptors between processes of one host: abstract Unix sockets and SCM_RIGHTS.
#pragma once

#include <array>
#include <cstdint>
#include <string>

#include "base/deadline.hpp"
#include "base/file_descriptor.hpp"

namespace crossdock::host {

/// Unguessable, so that only ranks of the group can have it.
using Nonce = std::array<std::uint8_t, 16>;
[[nodiscard]] Nonce make_nonce();

/// What travels with a descriptor.
struct FdMessage {
  Nonce nonce{};           ///< of the rank that listens: proof that the sender is of its group
  std::int32_t rank = -1;  ///< of the sender
};

/// A listening abstract socket named after the nonce: it has no file and vanishes with the process.
[[nodiscard]] FileDescriptor listen_fd_channel(const Nonce& nonce, int backlog);
/// Connects to the socket of another process on this host. Throws kBootstrap if there is none.
[[nodiscard]] FileDescriptor connect_fd_channel(const Nonce& nonce);
/// The next connection. Throws kTimeout.
[[nodiscard]] FileDescriptor accept_fd_channel(const FileDescriptor& listener, const Deadline& deadline);

void send_fd(const FileDescriptor& channel, const FdMessage& message, int fd);
struct ReceivedFd {
  FdMessage message;
  FileDescriptor fd;
};
/// Throws kTimeout, or kBootstrap if the other side closed or sent something else.
[[nodiscard]] ReceivedFd receive_fd(const FileDescriptor& channel, const Deadline& deadline);

/// The process at the other end as the kernel knows it: its pid here (0 if not visible) and its effective user.
struct PeerCredentials {
  int pid = 0;
  unsigned uid = 0;
};
[[nodiscard]] PeerCredentials credentials_of(const FileDescriptor& channel);

}  // namespace crossdock::host
