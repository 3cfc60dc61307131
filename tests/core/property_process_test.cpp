// Random worlds, ranks as processes: as engines run, with nothing shared but the windows.
#include <gtest/gtest.h>

#include <string>

#include "core/property_arguments.hpp"
#include "core/world_group.hpp"
#include "core/world_run.hpp"

namespace crossdock::testing {
namespace {

class WorldsAsProcesses : public ::testing::Test {
 public:
  WorldsAsProcesses(int num_ranks, std::vector<std::uint64_t> seeds)
      : group_{num_ranks, std::move(seeds), buffer_options_for(num_ranks)} {}

  void TestBody() override {
    for (const std::string& failure : run_worlds_as_processes(group_)) ADD_FAILURE() << failure;
  }

 private:
  WorldGroup group_;
};

}  // namespace
}  // namespace crossdock::testing

int main(int argc, char** argv) {
  using namespace crossdock::testing;
  ::testing::InitGoogleTest(&argc, argv);
  constexpr std::uint64_t kWorlds = 200;
  for (const auto& [num_ranks, seeds] : group_by_ranks(parse_property_arguments(argc, argv, kWorlds))) {
    ::testing::RegisterTest("WorldsAsProcesses", ("ranks_" + std::to_string(num_ranks)).c_str(), nullptr, nullptr,
                            __FILE__, __LINE__, [ranks = num_ranks, group = seeds]() -> WorldsAsProcesses* {
                              return new WorldsAsProcesses(ranks, group);  // GoogleTest deletes it
                            });
  }
  return RUN_ALL_TESTS();
}
