#include "base/cpu.hpp"

#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <string>

namespace crossdock {

namespace {

/// "max 100000" or "200000 100000": microseconds of CPU per period (cgroup v2).
int cores_of_quota() {
  std::ifstream file("/sys/fs/cgroup/cpu.max");
  std::string quota;
  double period = 0;
  if (!(file >> quota >> period) || quota == "max" || period <= 0) return 0;
  return static_cast<int>(std::ceil(std::strtod(quota.c_str(), nullptr) / period));
}

}  // namespace

int usable_cores() {
  cpu_set_t set;
  int cores = 0;
  if (::sched_getaffinity(0, sizeof(set), &set) == 0) {
    cores = CPU_COUNT(&set);
  } else {
    cores = static_cast<int>(::sysconf(_SC_NPROCESSORS_ONLN));
  }
  const int quota = cores_of_quota();
  if (quota > 0) cores = std::min(cores, quota);
  return std::max(cores, 1);
}

}  // namespace crossdock
