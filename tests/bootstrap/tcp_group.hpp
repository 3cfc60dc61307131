// Groups of the TCP rendezvous whose ranks are threads of the test.
#pragma once

#include <string>

#include "bootstrap/ranks.hpp"

namespace crossdock::bootstrap_test {

/// Options for `rank`; the address is the loopback of IPv4.
[[nodiscard]] TcpBootstrapOptions tcp_options(std::uint16_t port, int rank, int size, const std::string& secret = "");

[[nodiscard]] Group make_tcp_group(int size, const std::string& secret);

}  // namespace crossdock::bootstrap_test
