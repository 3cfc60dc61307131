#include "crossdock/machine.hpp"

#include <sys/utsname.h>

#include <fstream>
#include <sstream>

#include "base/cpu.hpp"

namespace crossdock::tool {

namespace {

/// Text after "name:" in a file of such lines; empty if there is none.
std::string read_field(const std::string& path, const std::string& name) {
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) {
    if (line.rfind(name, 0) != 0) continue;
    const auto colon = line.find(':');
    if (colon == std::string::npos) continue;
    const auto begin = line.find_first_not_of(" \t", colon + 1);
    return begin == std::string::npos ? std::string() : line.substr(begin);
  }
  return {};
}

std::int64_t read_kilobytes(const std::string& path, const std::string& name) {
  std::istringstream text(read_field(path, name));
  std::int64_t kilobytes = 0;
  return text >> kilobytes ? kilobytes * 1024 : 0;
}

std::string kernel_name() {
  utsname name{};
  if (::uname(&name) != 0) return "unknown";
  return std::string(name.sysname) + " " + name.release;
}

std::string compiler_name() {
#if defined(__clang__)
  return "clang " __clang_version__;
#else
  return "gcc " __VERSION__;
#endif
}

}  // namespace

std::string simd_level() {
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw")) return "AVX-512";
  if (__builtin_cpu_supports("avx2")) return "AVX2";
  return "SSE2";
#elif defined(__aarch64__)
  return "NEON";
#else
  return "none";
#endif
}

std::string read_line(const std::string& path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  const auto end = line.find_last_not_of(" \t\n");
  return end == std::string::npos ? std::string() : line.substr(0, end + 1);
}

std::int64_t available_memory_bytes() { return read_kilobytes("/proc/meminfo", "MemAvailable"); }

std::int64_t proportional_set_size_bytes() { return read_kilobytes("/proc/self/smaps_rollup", "Pss"); }

Machine describe_machine() {
  Machine result;
  result.cpu = read_field("/proc/cpuinfo", "model name");
  if (result.cpu.empty()) result.cpu = "unknown";
  result.cores = usable_cores();
  result.memory_bytes = read_kilobytes("/proc/meminfo", "MemTotal");
  result.kernel = kernel_name();
  result.compiler = compiler_name();
  result.simd = simd_level();
  return result;
}

}  // namespace crossdock::tool
