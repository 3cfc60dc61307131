#include <cstdlib>
#include <map>
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <crossdock/bootstrap.hpp>
#include <crossdock/error.hpp>

namespace crossdock {
namespace {

using testing::AllOf;
using testing::HasSubstr;

using Variables = std::map<std::string, std::string>;

/// The environment holds these variables and none of the others that matter. Each test runs in one thread.
void set_environment(const Variables& variables) {
  for (const char* name : {"MASTER_ADDR", "MASTER_PORT", "RANK", "OMPI_COMM_WORLD_RANK", "PMI_RANK", "SLURM_PROCID",
                           "WORLD_SIZE", "OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "SLURM_NTASKS", "CROSSDOCK_SECRET",
                           "CROSSDOCK_PORT", "TORCHELASTIC_USE_AGENT_STORE"}) {
    ::unsetenv(name);  // NOLINT(concurrency-mt-unsafe)
  }
  for (const auto& [name, value] : variables)
    ::setenv(name.c_str(), value.c_str(), 1);  // NOLINT(concurrency-mt-unsafe)
}

const Variables kTorchrun = {{"MASTER_ADDR", "node0"}, {"MASTER_PORT", "29500"}, {"RANK", "3"}, {"WORLD_SIZE", "8"}};

Variables torchrun_with(const std::string& name, const std::string& value) {
  Variables result = kTorchrun;
  result[name] = value;
  return result;
}

Variables torchrun_without(const std::string& name) {
  Variables result = kTorchrun;
  result.erase(name);
  return result;
}

std::string error_with(const Variables& variables) {
  set_environment(variables);
  try {
    static_cast<void>(tcp_bootstrap_options_from_environment());
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kInvalidArgument) << error.what();
    return error.what();
  }
  ADD_FAILURE() << "no error";
  return "";
}

TEST(BootstrapEnvironment, LeavesTheAgentOfTorchrunItsPort) {
  set_environment(torchrun_with("TORCHELASTIC_USE_AGENT_STORE", "True"));
  EXPECT_EQ(tcp_bootstrap_options_from_environment()->port, 29501);
  set_environment(torchrun_with("TORCHELASTIC_USE_AGENT_STORE", "False"));
  EXPECT_EQ(tcp_bootstrap_options_from_environment()->port, 29500);
  Variables last = torchrun_with("TORCHELASTIC_USE_AGENT_STORE", "True");
  last["MASTER_PORT"] = "65535";
  set_environment(last);
  EXPECT_EQ(tcp_bootstrap_options_from_environment()->port, 65534);
}

TEST(BootstrapEnvironment, CrossdockPortComesFirst) {
  Variables both = torchrun_with("TORCHELASTIC_USE_AGENT_STORE", "True");
  both["CROSSDOCK_PORT"] = "4000";
  set_environment(both);
  EXPECT_EQ(tcp_bootstrap_options_from_environment()->port, 4000);
  set_environment(torchrun_with("CROSSDOCK_PORT", "4001"));
  EXPECT_EQ(tcp_bootstrap_options_from_environment()->port, 4001);
  EXPECT_THAT(error_with(torchrun_with("CROSSDOCK_PORT", "0")), HasSubstr("CROSSDOCK_PORT=0"));
}

TEST(BootstrapEnvironment, NoRankMeansASingleRank) {
  set_environment({});
  EXPECT_FALSE(tcp_bootstrap_options_from_environment().has_value());
  set_environment({{"MASTER_ADDR", "node0"}, {"MASTER_PORT", "29500"}});
  EXPECT_FALSE(tcp_bootstrap_options_from_environment().has_value());
}

TEST(BootstrapEnvironment, ReadsTorchrun) {
  set_environment(kTorchrun);
  const auto options = tcp_bootstrap_options_from_environment();
  ASSERT_TRUE(options.has_value());
  EXPECT_EQ(options->address, "node0");
  EXPECT_EQ(options->port, 29500);
  EXPECT_EQ(options->rank, 3);
  EXPECT_EQ(options->size, 8);
  EXPECT_EQ(options->secret, "");
}

TEST(BootstrapEnvironment, ReadsTheRanksOfOtherLaunchers) {
  const std::vector<std::pair<std::string, std::string>> launchers = {
      {"OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"}, {"PMI_RANK", "PMI_SIZE"}, {"SLURM_PROCID", "SLURM_NTASKS"}};
  for (const auto& [rank, size] : launchers) {
    set_environment({{"MASTER_ADDR", "::1"}, {"MASTER_PORT", "1"}, {rank, "0"}, {size, "1"}});
    const auto options = tcp_bootstrap_options_from_environment();
    ASSERT_TRUE(options.has_value()) << rank;
    EXPECT_EQ(options->rank, 0);
    EXPECT_EQ(options->size, 1);
    EXPECT_EQ(options->address, "::1");
  }
}

TEST(BootstrapEnvironment, PassesTheSecretOn) {
  set_environment(torchrun_with("CROSSDOCK_SECRET", "open sesame"));
  EXPECT_EQ(tcp_bootstrap_options_from_environment()->secret, "open sesame");
}

TEST(BootstrapEnvironment, NamesWhatIsMissing) {
  EXPECT_THAT(error_with(torchrun_without("MASTER_ADDR")),
              AllOf(HasSubstr("MASTER_ADDR is not set"), HasSubstr("RANK=3")));
  EXPECT_THAT(error_with(torchrun_without("MASTER_PORT")),
              AllOf(HasSubstr("MASTER_PORT is not set"), HasSubstr("RANK=3")));
  EXPECT_THAT(error_with(torchrun_without("WORLD_SIZE")),
              AllOf(HasSubstr("WORLD_SIZE is not set"), HasSubstr("RANK=3")));
  EXPECT_THAT(error_with({{"OMPI_COMM_WORLD_RANK", "1"}, {"OMPI_COMM_WORLD_SIZE", "2"}}),
              AllOf(HasSubstr("MASTER_ADDR is not set"), HasSubstr("OMPI_COMM_WORLD_RANK=1")));
}

TEST(BootstrapEnvironment, ASizeWithoutARankIsAnErrorExceptInASlurmAllocation) {
  EXPECT_THAT(error_with(torchrun_without("RANK")), HasSubstr("WORLD_SIZE=8 is set but no rank is"));
  set_environment({{"SLURM_NTASKS", "8"}});
  EXPECT_FALSE(tcp_bootstrap_options_from_environment().has_value());
}

TEST(BootstrapEnvironment, SaysWhatIsAllowed) {
  const std::vector<std::tuple<std::string, std::string, std::string>> cases = {
      {"RANK", "8", "RANK=8 must be a number from 0 to 7"},
      {"RANK", "-1", "RANK=-1 must be a number from 0 to 7"},
      {"RANK", "3x", "RANK=3x must be"},
      {"RANK", " 3", "RANK= 3 must be"},
      {"RANK", "99999999999999999999", "RANK=99999999999999999999 must be"},
      {"WORLD_SIZE", "0", "WORLD_SIZE=0 must be a number from 1 to 65536"},
      {"WORLD_SIZE", "eight", "WORLD_SIZE=eight must be"},
      {"MASTER_PORT", "0", "MASTER_PORT=0 must be a number from 1 to 65535"},
      {"MASTER_PORT", "65536", "MASTER_PORT=65536 must be a number from 1 to 65535"},
      {"MASTER_PORT", "http", "MASTER_PORT=http must be"}};
  for (const auto& [name, value, message] : cases) {
    EXPECT_THAT(error_with(torchrun_with(name, value)), HasSubstr(message));
  }
}

}  // namespace
}  // namespace crossdock
