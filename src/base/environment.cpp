#include <crossdock/environment.hpp>

#include <cstdlib>
#include <initializer_list>

namespace crossdock {

namespace {

std::optional<std::string> read(const char* name) {
  const char* value = std::getenv(name);  // NOLINT(concurrency-mt-unsafe): crossdock never writes the environment
  if (value == nullptr || *value == '\0') return std::nullopt;
  return std::string(value);
}

/// The first variable that is set, and its name.
std::optional<std::string> read_first(std::initializer_list<const char*> names, std::string& found) {
  for (const char* name : names) {
    if (auto value = read(name)) {
      found = name;
      return value;
    }
  }
  return std::nullopt;
}

}  // namespace

Environment read_environment() {
  Environment result;
  result.master_addr = read("MASTER_ADDR");
  result.master_port = read("MASTER_PORT");
  result.port = read("CROSSDOCK_PORT");
  result.agent_store = read("TORCHELASTIC_USE_AGENT_STORE");
  result.rank = read_first({"RANK", "OMPI_COMM_WORLD_RANK", "PMI_RANK", "SLURM_PROCID"}, result.rank_variable);
  result.world_size =
      read_first({"WORLD_SIZE", "OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "SLURM_NTASKS"}, result.world_size_variable);
  result.secret = read("CROSSDOCK_SECRET");
  result.log_level = read("CROSSDOCK_LOG");
  return result;
}

}  // namespace crossdock
