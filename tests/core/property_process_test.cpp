// Random worlds, ranks as processes: as engines run, with nothing shared but the windows.
#include <gtest/gtest.h>

#include <cstdio>
#include <stdexcept>
#include <string>

#include "core/property_arguments.hpp"
#include "core/world_run.hpp"
#include "support/ranks.hpp"

namespace crossdock::testing {
namespace {

/// Each rank makes the worlds and what the oracle says of them for itself.
void run_rank(const std::shared_ptr<Bootstrap>& bootstrap, const std::vector<std::uint64_t>& seeds) {
  Buffer buffer(bootstrap, buffer_options_for(bootstrap->size()));
  for (const std::uint64_t seed : seeds) {
    const RandomWorld world = make_random_world(seed);
    std::string text;
    try {
      for (const std::string& line : run_world(buffer, world)) text += "\n  " + line;
    } catch (const std::exception& error) {
      text += std::string("\n  ") + error.what();
    }
    if (!text.empty()) throw std::runtime_error(world.description() + text);
  }
}

class WorldsAsProcesses : public ::testing::Test {
 public:
  WorldsAsProcesses(int num_ranks, std::vector<std::uint64_t> seeds)
      : num_ranks_(num_ranks), seeds_(std::move(seeds)) {}

  void TestBody() override {
    const auto statuses = run_as_processes(
        num_ranks_, [this](const std::shared_ptr<Bootstrap>& bootstrap) { run_rank(bootstrap, seeds_); });
    for (std::size_t rank = 0; rank < statuses.size(); ++rank) {
      EXPECT_EQ(statuses[rank], ExitStatus{}) << "rank " << rank << " ended with code " << statuses[rank].code
                                              << ", signal " << statuses[rank].signal << "; see its message above";
    }
  }

 private:
  int num_ranks_;
  std::vector<std::uint64_t> seeds_;
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
