// Random worlds, ranks as threads: every result equals the oracle's bit for bit.
#include <gtest/gtest.h>

#include <string>

#include "core/property_arguments.hpp"
#include "core/world_group.hpp"
#include "core/world_run.hpp"

namespace crossdock::testing {
namespace {

class WorldsAsThreads : public ::testing::Test {
 public:
  WorldsAsThreads(int num_ranks, std::vector<std::uint64_t> seeds)
      : group_{num_ranks, std::move(seeds), buffer_options_for(num_ranks)} {}

  void TestBody() override {
    for (const std::string& failure : run_worlds_as_threads(group_)) ADD_FAILURE() << failure;
  }

 private:
  WorldGroup group_;
};

}  // namespace
}  // namespace crossdock::testing

int main(int argc, char** argv) {
  using namespace crossdock::testing;
  ::testing::InitGoogleTest(&argc, argv);
  constexpr std::uint64_t kWorlds = 2000;
  for (const auto& [num_ranks, seeds] : group_by_ranks(parse_property_arguments(argc, argv, kWorlds))) {
    ::testing::RegisterTest("WorldsAsThreads", ("ranks_" + std::to_string(num_ranks)).c_str(), nullptr, nullptr,
                            __FILE__, __LINE__, [ranks = num_ranks, group = seeds]() -> WorldsAsThreads* {
                              return new WorldsAsThreads(ranks, group);  // GoogleTest deletes it
                            });
  }
  return RUN_ALL_TESTS();
}
