#include "bootstrap/connection.hpp"

#include <sys/socket.h>

#include <cerrno>
#include <system_error>
#include <utility>

namespace crossdock::bootstrap {

namespace {

bool would_block(int error) { return error == EAGAIN || error == EWOULDBLOCK; }

std::string broken(int error) { return "closed its connection: " + std::generic_category().message(error); }

}  // namespace

void Connection::send(std::shared_ptr<const Bytes> frames) {
  unsent_.push_back(std::move(frames));
  flush();
}

void Connection::flush() {
  while (!unsent_.empty() && !send_failure_) {
    const auto rest = std::span(*unsent_.front()).subspan(sent_);
    // Without MSG_NOSIGNAL a peer that has gone would kill this process.
    const ssize_t count = ::send(socket_.get(), rest.data(), rest.size(), MSG_NOSIGNAL);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0 && would_block(errno)) return;
    if (count < 0) {
      send_failure_ = broken(errno);
      break;
    }
    sent_ += static_cast<std::size_t>(count);
    if (sent_ < unsent_.front()->size()) continue;
    unsent_.pop_front();
    sent_ = 0;
  }
  if (send_failure_) unsent_.clear();
}

std::optional<Frame> Connection::receive() {
  while (!end_) {
    const auto wanted = reader_.wanted();
    const ssize_t count = ::recv(socket_.get(), wanted.data(), wanted.size(), 0);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0 && would_block(errno)) return std::nullopt;
    if (count <= 0) {
      end_ = count == 0 ? std::string("closed its connection") : broken(errno);
      return std::nullopt;
    }
    if (auto frame = reader_.advance(static_cast<std::size_t>(count))) return frame;
  }
  return std::nullopt;
}

pollfd Connection::poll_entry(short more) const noexcept {
  return {socket_.get(), static_cast<short>(unsent_.empty() ? more : more | POLLOUT), 0};
}

}  // namespace crossdock::bootstrap
