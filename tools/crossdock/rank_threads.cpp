#include "crossdock/rank_threads.hpp"

#include <condition_variable>
#include <exception>
#include <mutex>
#include <thread>

namespace crossdock::tool {

namespace {

/// What the threads report while they run.
class Reports {
 public:
  void finish(std::vector<RankFailure> failure) {
    const std::lock_guard lock(mutex_);
    for (auto& one : failure) failures_.push_back(std::move(one));
    ++finished_;
    changed_.notify_one();
  }

  void wait_for_all(int num_ranks, const std::function<void()>& while_waiting) {
    constexpr std::chrono::milliseconds kTick{50};
    std::unique_lock lock(mutex_);
    while (!changed_.wait_for(lock, kTick, [&] { return finished_ == num_ranks; })) {
      if (!while_waiting) continue;
      lock.unlock();
      while_waiting();
      lock.lock();
    }
  }

  [[nodiscard]] std::vector<RankFailure> take() { return std::move(failures_); }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<RankFailure> failures_;
  int finished_ = 0;
};

void run_one(std::shared_ptr<Bootstrap> bootstrap, const RankBody& body, Reports& reports) {
  const int rank = bootstrap->rank();
  std::vector<RankFailure> failure;
  try {
    body(bootstrap);
  } catch (...) {
    failure.push_back(describe_current_exception(rank));
  }
  bootstrap.reset();
  reports.finish(std::move(failure));
}

}  // namespace

RankFailure describe_current_exception(int rank) noexcept {
  try {
    throw;
  } catch (const Error& error) {
    return {rank, error.code(), error.what()};
  } catch (const std::bad_alloc&) {
    return {rank, ErrorCode::kCapacity, "out of memory"};
  } catch (const std::exception& error) {
    return {rank, ErrorCode::kState, error.what()};
  } catch (...) {
    return {rank, ErrorCode::kState, "unknown exception"};
  }
}

std::vector<RankFailure> run_rank_threads(const LaunchOptions& options, const RankBody& body) {
  auto bootstraps = make_in_process_bootstraps(options.num_ranks);
  Reports reports;
  {
    std::vector<std::jthread> threads;
    threads.reserve(bootstraps.size());
    for (auto& bootstrap : bootstraps) {
      threads.emplace_back(
          [&reports, &body, mine = std::move(bootstrap)]() mutable { run_one(std::move(mine), body, reports); });
    }
    reports.wait_for_all(options.num_ranks, options.while_waiting);
  }
  return reports.take();
}

}  // namespace crossdock::tool
