// Random worlds, ranks as threads: every result equals the oracle's bit for bit.
#include <gtest/gtest.h>

#include <atomic>
#include <barrier>
#include <exception>
#include <memory>
#include <mutex>
#include <string>

#include "core/property_arguments.hpp"
#include "core/world_run.hpp"
#include "support/ranks.hpp"

namespace crossdock::testing {
namespace {

/// The worlds of one rank count, one after the other on the same buffers; rank 0 makes each world for all.
class Group {
 public:
  Group(int num_ranks, const std::vector<std::uint64_t>& seeds)
      : num_ranks_(num_ranks), seeds_(seeds), barrier_(num_ranks) {}

  void run() {
    run_as_threads(num_ranks_, [this](const std::shared_ptr<Bootstrap>& bootstrap) { run_rank(bootstrap); });
  }

 private:
  void run_rank(const std::shared_ptr<Bootstrap>& bootstrap) {
    std::unique_ptr<Buffer> buffer;
    guarded(bootstrap->rank(), "making the buffer",
            [&] { buffer = std::make_unique<Buffer>(bootstrap, buffer_options_for(num_ranks_)); });
    for (const std::uint64_t seed : seeds_) {
      if (bootstrap->rank() == 0) {
        guarded(0, "seed " + std::to_string(seed), [&] { world_ = make_random_world(seed); });
      }
      barrier_.arrive_and_wait();
      if (has_failed_) return;
      guarded(bootstrap->rank(), world_.description(), [&] {
        for (const std::string& line : run_world(*buffer, world_)) fail(bootstrap->rank(), world_.description(), line);
      });
      barrier_.arrive_and_wait();  // no rank leaves, or makes the next world, while another is in this one
      if (has_failed_) return;
    }
  }

  /// Every rank reaches the next barrier, whatever happens before it.
  template <typename Action>
  void guarded(int rank, const std::string& what, const Action& action) {
    try {
      action();
    } catch (const std::exception& error) {
      fail(rank, what, error.what());
    }
  }

  void fail(int rank, const std::string& what, const std::string& why) {
    const std::scoped_lock lock(mutex_);
    ADD_FAILURE() << what << "\n  rank " << rank << ": " << why;
    has_failed_ = true;
  }

  int num_ranks_;
  const std::vector<std::uint64_t>& seeds_;
  std::barrier<> barrier_;
  RandomWorld world_;  // written by rank 0 between two barriers
  std::mutex mutex_;
  std::atomic<bool> has_failed_{false};
};

class WorldsAsThreads : public ::testing::Test {
 public:
  WorldsAsThreads(int num_ranks, std::vector<std::uint64_t> seeds) : num_ranks_(num_ranks), seeds_(std::move(seeds)) {}

  void TestBody() override { Group(num_ranks_, seeds_).run(); }

 private:
  int num_ranks_;
  std::vector<std::uint64_t> seeds_;
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
