#include "backend/cuda/rank_threads.hpp"

#include <condition_variable>
#include <mutex>

namespace crossdock::cuda {

namespace {

/// CUDA has one context of a device for the whole process.
struct State {
  std::mutex mutex;
  std::condition_variable is_changed;
  int alive = 0;
};

State& state() {
  static State& instance = *new State;  // threads may still wait when the process ends
  return instance;
}

}  // namespace

RankThreads::RankThreads() {
  const std::lock_guard lock(state().mutex);
  ++state().alive;
}

RankThreads::~RankThreads() {
  const std::lock_guard lock(state().mutex);
  --state().alive;
  state().is_changed.notify_all();
}

void RankThreads::run_without_any(const std::function<void()>& body) {
  std::unique_lock lock(state().mutex);
  state().is_changed.wait(lock, [] { return state().alive == 0; });
  body();
}

}  // namespace crossdock::cuda
