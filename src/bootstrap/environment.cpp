// Options of the TCP rendezvous from the environment.
#include <charconv>
#include <optional>
#include <string>
#include <string_view>

#include <crossdock/bootstrap.hpp>
#include <crossdock/environment.hpp>

#include "base/error.hpp"
#include "bootstrap/limits.hpp"

namespace crossdock {

namespace {

/// The decimal number in `text`, which must lie in [lowest, highest].
int parse_number(std::string_view variable, std::string_view text, int lowest, int highest) {
  int value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  const bool whole = error == std::errc{} && end == text.data() + text.size();
  require(whole && value >= lowest && value <= highest, "{}={} must be a number from {} to {}", variable, text, lowest,
          highest);
  return value;
}

/// A world size without a rank: slurm sets SLURM_NTASKS for a whole allocation, so that alone says nothing about this
/// process; from any other launcher it means that the rank was forgotten.
void require_no_size_without_rank(const Environment& environment) {
  require(!environment.world_size || environment.world_size_variable == "SLURM_NTASKS",
          "{}={} is set but no rank is; set RANK", environment.world_size_variable,
          environment.world_size.value_or(""));
}

const std::string& require_variable(const std::optional<std::string>& value, std::string_view name,
                                    const Environment& environment) {
  require(value.has_value(), "{}={} names a rank but {} is not set", environment.rank_variable, *environment.rank,
          name);
  return *value;
}

/// torchrun's agent listens on MASTER_PORT itself unless told otherwise, and says so; then the next port is rank 0's.
std::uint16_t port_of(const Environment& environment) {
  constexpr int kHighest = 65'535;
  if (environment.port)
    return static_cast<std::uint16_t>(parse_number("CROSSDOCK_PORT", *environment.port, 1, kHighest));
  const auto& text = require_variable(environment.master_port, "MASTER_PORT", environment);
  const int port = parse_number("MASTER_PORT", text, 1, kHighest);
  if (environment.agent_store != "True") return static_cast<std::uint16_t>(port);
  return static_cast<std::uint16_t>(port < kHighest ? port + 1 : port - 1);
}

}  // namespace

std::optional<TcpBootstrapOptions> tcp_bootstrap_options_from_environment() {
  const Environment environment = read_environment();
  if (!environment.rank) {
    require_no_size_without_rank(environment);
    return std::nullopt;
  }
  const auto& size = require_variable(environment.world_size, "WORLD_SIZE", environment);
  TcpBootstrapOptions result;
  result.size = parse_number(environment.world_size_variable, size, 1, bootstrap::kMaxSize);
  result.rank = parse_number(environment.rank_variable, *environment.rank, 0, result.size - 1);
  result.address = require_variable(environment.master_addr, "MASTER_ADDR", environment);
  result.port = port_of(environment);
  result.secret = environment.secret.value_or("");
  return result;
}

}  // namespace crossdock
