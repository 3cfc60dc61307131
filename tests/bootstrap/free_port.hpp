// A TCP port of the loopback address that nobody else gets while the test runs.
#pragma once

#include <cstdint>

#include "base/file_descriptor.hpp"

namespace crossdock::bootstrap_test {

/// Keeps a socket bound to a port that the kernel chose. It does not listen, so rank 0 may still do so, but the kernel
/// hands the port to nobody else.
class FreePort {
 public:
  explicit FreePort(bool ipv6 = false);

  /// False if this machine has no IPv6.
  [[nodiscard]] bool available() const noexcept { return number_ != 0; }
  [[nodiscard]] std::uint16_t number() const noexcept { return number_; }

 private:
  FileDescriptor socket_;
  std::uint16_t number_ = 0;
};

}  // namespace crossdock::bootstrap_test
