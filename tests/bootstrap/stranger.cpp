#include "bootstrap/stranger.hpp"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/time.h>

#include <array>
#include <thread>

#include "base/deadline.hpp"
#include "base/error.hpp"
#include "bootstrap/ranks.hpp"

namespace crossdock::bootstrap_test {

namespace {

constexpr std::chrono::seconds kPatience{20};

sockaddr_in loopback(std::uint16_t port) {
  sockaddr_in result{};
  result.sin_family = AF_INET;
  result.sin_port = htons(port);
  result.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  return result;
}

const sockaddr* generic(const sockaddr_in& address) {
  return reinterpret_cast<const sockaddr*>(&address);  // NOLINT: the sockets interface asks for it
}

FileDescriptor open_socket() {
  FileDescriptor result(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const timeval patience{kPatience.count(), 0};
  if (::setsockopt(result.get(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience)) != 0)
    throw system_error("socket");
  return result;
}

void send_all(int socket, const Bytes& bytes) {
  // The other side may have closed already, which is its right.
  static_cast<void>(::send(socket, bytes.data(), bytes.size(), MSG_NOSIGNAL));
}

}  // namespace

Stranger::Stranger(std::uint16_t port) {
  const sockaddr_in address = loopback(port);
  const Deadline deadline(kPatience);
  do {
    socket_ = open_socket();
    if (::connect(socket_.get(), generic(address), sizeof(address)) == 0) return;
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  } while (!deadline.passed());
  throw system_error("connecting a stranger");
}

void Stranger::send(const Bytes& bytes) const { send_all(socket_.get(), bytes); }

void Stranger::send(const std::string& text) const { send(to_bytes(text)); }

std::string Stranger::receive_all() const {
  std::string result;
  std::array<char, 1024> chunk{};
  while (true) {
    const ssize_t count = ::recv(socket_.get(), chunk.data(), chunk.size(), 0);
    if (count < 0 && errno == EAGAIN) throw system_error("rank 0 did not close a stranger's connection");
    if (count <= 0) return result;
    result.append(chunk.data(), static_cast<std::size_t>(count));
  }
}

Bytes Stranger::receive(std::size_t count) const {
  Bytes result(count);
  const ssize_t received = ::recv(socket_.get(), result.data(), count, MSG_WAITALL);
  result.resize(received > 0 ? static_cast<std::size_t>(received) : 0);
  return result;
}

void Impostor::serve_once(std::uint16_t port, const Bytes& answer) {
  const FileDescriptor listener = open_socket();
  const sockaddr_in address = loopback(port);
  const int yes = 1;
  if (::setsockopt(listener.get(), SOL_SOCKET, SO_REUSEADDR, &yes, sizeof(yes)) != 0 ||
      ::bind(listener.get(), generic(address), sizeof(address)) != 0 || ::listen(listener.get(), 1) != 0) {
    throw system_error("listening in the place of rank 0");
  }
  const FileDescriptor peer(::accept(listener.get(), nullptr, nullptr));
  std::array<char, 1024> chunk{};
  static_cast<void>(::recv(peer.get(), chunk.data(), chunk.size(), 0));
  send_all(peer.get(), answer);
}

}  // namespace crossdock::bootstrap_test
