// Every environment variable that crossdock reads, in one place. crossdock never writes one.
#pragma once

#include <optional>
#include <string>

#include <crossdock/export.hpp>

namespace crossdock {

/// Values as found when `read_environment` was called; absent variables are empty optionals.
struct Environment {
  std::optional<std::string> master_addr;  ///< MASTER_ADDR: host of rank 0
  std::optional<std::string> master_port;  ///< MASTER_PORT: TCP port of rank 0
  std::optional<std::string> port;  ///< CROSSDOCK_PORT: TCP port of rank 0 where MASTER_PORT serves something else
  std::optional<std::string> agent_store;  ///< TORCHELASTIC_USE_AGENT_STORE: "True" if torchrun's agent has MASTER_PORT
  std::optional<std::string> rank;         ///< RANK, else OMPI_COMM_WORLD_RANK, else PMI_RANK, else SLURM_PROCID
  std::optional<std::string> world_size;   ///< WORLD_SIZE, else OMPI_COMM_WORLD_SIZE, else PMI_SIZE, else SLURM_NTASKS
  std::string rank_variable;               ///< the name of the variable that `rank` came from, for messages
  std::string world_size_variable;         ///< the name of the variable that `world_size` came from
  std::optional<std::string> secret;       ///< CROSSDOCK_SECRET: shared secret of the TCP bootstrap
  std::optional<std::string> log_level;    ///< CROSSDOCK_LOG: trace, debug, info, warn (default), error, off
};

[[nodiscard]] CROSSDOCK_EXPORT Environment read_environment();

}  // namespace crossdock
