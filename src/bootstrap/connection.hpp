// A socket that sends and receives frames without ever blocking.
#pragma once

#include <poll.h>

#include <deque>
#include <memory>
#include <optional>
#include <string>

#include "base/deadline.hpp"
#include "base/file_descriptor.hpp"
#include "bootstrap/frames.hpp"

namespace crossdock::bootstrap {

/// Not thread-safe.
class Connection {
 public:
  Connection(FileDescriptor socket, std::string address) : socket_(std::move(socket)), address_(std::move(address)) {}

  /// The peer, for messages.
  [[nodiscard]] const std::string& address() const noexcept { return address_; }

  /// Queues frames, and sends what the socket takes now.
  void send(Bytes frames) { send(std::make_shared<const Bytes>(std::move(frames))); }
  /// The same for bytes that go to several peers.
  void send(std::shared_ptr<const Bytes> frames);
  /// Sends more of what is queued.
  void flush();
  [[nodiscard]] bool has_unsent() const noexcept { return !unsent_.empty(); }

  /// The next whole frame, if the socket has it. Throws kFormat for malformed ones.
  [[nodiscard]] std::optional<Frame> receive();

  /// Set once nothing more can be received: why, completing the sentence "rank 3 ...".
  [[nodiscard]] const std::optional<std::string>& end() const noexcept { return end_; }
  /// The same for sending; frames that came before can still be received.
  [[nodiscard]] const std::optional<std::string>& send_failure() const noexcept { return send_failure_; }

  /// What to poll for: `more` and, while something is unsent, POLLOUT.
  [[nodiscard]] pollfd poll_entry(short more = POLLIN) const noexcept;

  FrameReader& reader() noexcept { return reader_; }

 private:
  FileDescriptor socket_;
  std::string address_;
  FrameReader reader_;
  std::deque<std::shared_ptr<const Bytes>> unsent_;
  std::size_t sent_ = 0;  // of the first entry
  std::optional<std::string> end_;
  std::optional<std::string> send_failure_;
};

}  // namespace crossdock::bootstrap
