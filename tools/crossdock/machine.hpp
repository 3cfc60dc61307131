// What this program runs on.
#pragma once

#include <cstdint>
#include <string>

namespace crossdock::tool {

struct Machine {
  std::string cpu;  ///< model name
  int cores = 1;    ///< usable by this process
  std::int64_t memory_bytes = 0;
  std::string kernel;    ///< "Linux 6.1.0"
  std::string compiler;  ///< that built this program
  std::string simd;      ///< best instruction set of the CPU: "AVX-512", "AVX2", "NEON", ...
};
[[nodiscard]] Machine describe_machine();

/// Best instruction set of the CPU among those that crossdock has code for.
[[nodiscard]] std::string simd_level();

/// What the kernel would give out without swapping; 0 if it does not say.
[[nodiscard]] std::int64_t available_memory_bytes();

/// Proportional set size of this process (shared pages divided by the number of processes that map them); 0 if the
/// kernel does not say.
[[nodiscard]] std::int64_t proportional_set_size_bytes();

/// First line of a file, without trailing blanks; empty if it cannot be read.
[[nodiscard]] std::string read_line(const std::string& path);

}  // namespace crossdock::tool
