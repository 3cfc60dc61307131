#include "team.hpp"

#include <sched.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <limits>
#include <new>
#include <stdexcept>
#include <system_error>
#include <vector>

namespace copy_limit {
namespace {

constexpr int kMostProcesses = 256;
constexpr int kSpins = 2000;

struct Stamp {
  alignas(64) double start_us;
  double end_us;
};

/// Lives in shared memory.
struct Shared {
  alignas(64) std::atomic<int> arrived{0};
  alignas(64) std::atomic<int> generation{0};
  Stamp stamps[kMostProcesses];
};

double now_us() {
  return std::chrono::duration<double, std::micro>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

void wait_for_all(Shared& shared, int processes) {
  const int generation = shared.generation.load(std::memory_order_acquire);
  if (shared.arrived.fetch_add(1, std::memory_order_acq_rel) + 1 == processes) {
    shared.arrived.store(0, std::memory_order_relaxed);
    shared.generation.fetch_add(1, std::memory_order_release);  // matches the acquire in the loop below
    return;
  }
  for (int spins = 0; shared.generation.load(std::memory_order_acquire) == generation; ++spins) {
    if (spins > kSpins) ::sched_yield();
  }
}

/// Pins to the n-th of the usable cores. A refusal costs accuracy only.
void pin(int process) {
  cpu_set_t usable;
  if (::sched_getaffinity(0, sizeof usable, &usable) != 0) return;
  int nth = process % CPU_COUNT(&usable);
  for (int core = 0; core < CPU_SETSIZE; ++core) {
    if (!CPU_ISSET(core, &usable) || nth-- > 0) continue;
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(core, &one);
    ::sched_setaffinity(0, sizeof one, &one);
    return;
  }
}

double elapsed_us(const Shared& shared, int processes) {
  double start = std::numeric_limits<double>::max();
  double end = 0;
  for (int p = 0; p < processes; ++p) {
    start = std::min(start, shared.stamps[p].start_us);
    end = std::max(end, shared.stamps[p].end_us);
  }
  return end - start;
}

void run_member(Shared& shared, int processes, int process, int rounds, std::span<Trial> trials) {
  for (int round = 0; round <= rounds; ++round) {
    for (Trial& trial : trials) {
      wait_for_all(shared, processes);
      shared.stamps[process].start_us = now_us();
      trial.work(process);
      shared.stamps[process].end_us = now_us();
      wait_for_all(shared, processes);
      const double elapsed = elapsed_us(shared, processes);
      if (round > 0) trial.best_us = trial.best_us > 0 ? std::min(trial.best_us, elapsed) : elapsed;
    }
  }
}

}  // namespace

void run_trials(int processes, int rounds, std::span<Trial> trials) {
  if (processes < 1 || processes > kMostProcesses) throw std::invalid_argument("1 to 256 processes are possible");
  void* memory = ::mmap(nullptr, sizeof(Shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) throw std::system_error(errno, std::generic_category(), "mmap");
  auto& shared = *new (memory) Shared;
  std::vector<pid_t> children;
  for (int p = 1; p < processes; ++p) {
    const pid_t child = ::fork();
    if (child < 0) throw std::system_error(errno, std::generic_category(), "fork");
    if (child == 0) {
      pin(p);
      run_member(shared, processes, p, rounds, trials);
      ::_exit(0);
    }
    children.push_back(child);
  }
  cpu_set_t before;
  ::sched_getaffinity(0, sizeof before, &before);
  pin(0);
  run_member(shared, processes, 0, rounds, trials);
  ::sched_setaffinity(0, sizeof before, &before);
  for (const pid_t child : children) ::waitpid(child, nullptr, 0);
  ::munmap(memory, sizeof(Shared));
}

int usable_cores() {
  cpu_set_t usable;
  return ::sched_getaffinity(0, sizeof usable, &usable) == 0 ? CPU_COUNT(&usable) : 1;
}

}  // namespace copy_limit
