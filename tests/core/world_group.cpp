#include "core/world_group.hpp"

#include <fmt/format.h>

#include <atomic>
#include <barrier>
#include <exception>
#include <memory>
#include <mutex>
#include <stdexcept>

#include "core/world_run.hpp"
#include "support/random_world.hpp"
#include "support/ranks.hpp"

namespace crossdock::testing {

namespace {

/// Rank 0 makes each world for all.
class ThreadGroup {
 public:
  explicit ThreadGroup(const WorldGroup& group) : group_(group), barrier_(group.num_ranks) {}

  std::vector<std::string> run() {
    run_as_threads(group_.num_ranks, [this](const std::shared_ptr<Bootstrap>& bootstrap) { run_rank(bootstrap); });
    return failures_;
  }

 private:
  void run_rank(const std::shared_ptr<Bootstrap>& bootstrap) {
    std::unique_ptr<TensorPlace> place;
    std::unique_ptr<Buffer> buffer;
    guarded(bootstrap->rank(), "making the buffer", [&] {
      place = group_.make_place(bootstrap->rank());
      buffer = std::make_unique<Buffer>(bootstrap, on_device_of(*place, group_.options));
    });
    for (const std::uint64_t seed : group_.seeds) {
      if (bootstrap->rank() == 0) {
        guarded(0, "seed " + std::to_string(seed), [&] { world_ = make_random_world(seed); });
      }
      barrier_.arrive_and_wait();
      if (has_failed_) return;
      guarded(bootstrap->rank(), world_.description(), [&] {
        for (const std::string& line : run_world(*buffer, world_, world_, *place)) {
          fail(bootstrap->rank(), world_.description(), line);
        }
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
    failures_.push_back(fmt::format("{}\n  rank {}: {}", what, rank, why));
    has_failed_ = true;
  }

  const WorldGroup& group_;
  std::barrier<> barrier_;
  RandomWorld world_;  // written by rank 0 between two barriers
  std::mutex mutex_;
  std::vector<std::string> failures_;
  std::atomic<bool> has_failed_{false};
};

/// Each rank makes the worlds and what the oracle says of them for itself.
void run_rank_process(const WorldGroup& group, const std::shared_ptr<Bootstrap>& bootstrap) {
  const std::unique_ptr<TensorPlace> place = group.make_place(bootstrap->rank());
  Buffer buffer(bootstrap, on_device_of(*place, group.options));
  for (const std::uint64_t seed : group.seeds) {
    const RandomWorld world = make_random_world(seed);
    std::string text;
    try {
      for (const std::string& line : run_world(buffer, world, world, *place)) text += "\n  " + line;
    } catch (const std::exception& error) {
      text += std::string("\n  ") + error.what();
    }
    if (!text.empty()) throw std::runtime_error(world.description() + text);
  }
}

}  // namespace

std::vector<std::string> run_worlds_as_threads(const WorldGroup& group) { return ThreadGroup(group).run(); }

std::vector<std::string> run_worlds_as_processes(const WorldGroup& group) {
  const auto statuses = run_as_processes(
      group.num_ranks, [&](const std::shared_ptr<Bootstrap>& bootstrap) { run_rank_process(group, bootstrap); });
  std::vector<std::string> failures;
  for (std::size_t rank = 0; rank < statuses.size(); ++rank) {
    if (statuses[rank] == ExitStatus{}) continue;
    failures.push_back(fmt::format("rank {} ended with code {}, signal {}; see its message above", rank,
                                   statuses[rank].code, statuses[rank].signal));
  }
  return failures;
}

}  // namespace crossdock::testing
