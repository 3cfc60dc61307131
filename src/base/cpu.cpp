#include "base/cpu.hpp"

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

cpu_set_t allowed_cores() {
  cpu_set_t set;
  if (::sched_getaffinity(0, sizeof(set), &set) == 0) return set;
  // More cores than the set has room for: taken as all that it has.
  CPU_ZERO(&set);
  for (int core = 0; core < std::min(static_cast<int>(::sysconf(_SC_NPROCESSORS_ONLN)), CPU_SETSIZE); ++core)
    CPU_SET(core, &set);
  return set;
}

int usable_cores(const cpu_set_t& allowed) {
  const int cores = std::max(CPU_COUNT(&allowed), 1);
  const int quota = cores_of_quota();
  return quota > 0 ? std::min(cores, quota) : cores;
}

int usable_cores() { return usable_cores(allowed_cores()); }

}  // namespace crossdock
