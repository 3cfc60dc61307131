#include "cuda/ranks.hpp"

#include <sched.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <cstdio>
#include <new>
#include <system_error>

namespace crossdock::limits {

namespace {

constexpr int kMostRanks = 64;

}  // namespace

struct Ranks::Shared {
  std::atomic<int> arrived = 0;
  std::atomic<int> meetings = 0;
  std::array<double, kMostRanks> given{};
};

Ranks::Ranks(int count) : count_(count) {
  void* const memory = ::mmap(nullptr, sizeof(Shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) throw std::system_error(errno, std::generic_category(), "mmap");
  shared_ = new (memory) Shared;
  for (int rank = 1; rank < count_; ++rank) {
    const pid_t child = ::fork();
    if (child < 0) throw std::system_error(errno, std::generic_category(), "fork");
    if (child == 0) {
      rank_ = rank;
      children_.clear();
      return;
    }
    children_.push_back(child);
  }
}

Ranks::~Ranks() {
  if (!is_first()) ::_exit(0);
  for (const pid_t child : children_) static_cast<void>(::waitpid(child, nullptr, 0));
}

void Ranks::meet() noexcept {
  constexpr int kSpins = 2000;
  const int meeting = shared_->meetings.load();
  if (shared_->arrived.fetch_add(1) + 1 == count_) {
    shared_->arrived = 0;
    shared_->meetings.fetch_add(1);
    return;
  }
  for (int spins = 0; shared_->meetings.load() == meeting; ++spins) {
    if (spins > kSpins) ::sched_yield();
  }
}

double Ranks::largest(double mine) noexcept {
  shared_->given[static_cast<std::size_t>(rank_)] = mine;
  meet();
  const double result = *std::max_element(shared_->given.begin(), shared_->given.begin() + count_);
  meet();
  return result;
}

}  // namespace crossdock::limits
