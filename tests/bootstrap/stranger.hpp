// A peer that speaks TCP, but need not speak our protocol.
#pragma once

#include <string>

#include <crossdock/bootstrap.hpp>

#include "base/file_descriptor.hpp"

namespace crossdock::bootstrap_test {

/// Blocking; connects to the loopback address, again and again until somebody listens (20 seconds at most).
class Stranger {
 public:
  explicit Stranger(std::uint16_t port);

  void send(const Bytes& bytes) const;
  void send(const std::string& text) const;
  /// What the other side sends until it closes, 20 seconds at most.
  [[nodiscard]] std::string receive_all() const;
  /// `count` bytes, or fewer if the other side closes.
  [[nodiscard]] Bytes receive(std::size_t count) const;

 private:
  FileDescriptor socket_;
};

/// A listener for one connection, in the place of rank 0.
class Impostor {
 public:
  /// Sends `answer` to the first who connects, after it has read something from it, and closes.
  static void serve_once(std::uint16_t port, const Bytes& answer);
};

}  // namespace crossdock::bootstrap_test
