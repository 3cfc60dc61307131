#include "bootstrap/tcp_group.hpp"

#include "bootstrap/free_port.hpp"

namespace crossdock::bootstrap_test {

TcpBootstrapOptions tcp_options(std::uint16_t port, int rank, int size, const std::string& secret) {
  TcpBootstrapOptions result;
  result.port = port;
  result.rank = rank;
  result.size = size;
  result.secret = secret;
  result.timeout = Milliseconds(20'000);
  return result;
}

Group make_tcp_group(int size, const std::string& secret) {
  const FreePort port;
  Group result(static_cast<std::size_t>(size));
  run_ranks(size, [&](int rank) {
    result[static_cast<std::size_t>(rank)] = make_tcp_bootstrap(tcp_options(port.number(), rank, size, secret));
  });
  return result;
}

}  // namespace crossdock::bootstrap_test
