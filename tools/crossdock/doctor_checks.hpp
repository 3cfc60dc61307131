// What crossdock needs or likes to have, and whether this machine has it.
#pragma once

#include <string>
#include <vector>

namespace crossdock::tool {

enum class Health : unsigned char {
  kOk,
  kNote,  ///< works, but something could be better or is not part of this build
  kNo,    ///< the default backend does not work without it
};

struct Finding {
  Health health = Health::kOk;
  std::string subject;
  std::string text;  ///< one sentence; what to do about it, if anything
};

[[nodiscard]] Finding check_shared_memory();
[[nodiscard]] Finding check_memory_size();
[[nodiscard]] Finding check_reserved_huge_pages();
[[nodiscard]] Finding check_transparent_huge_pages();
[[nodiscard]] Finding check_cores(int num_ranks);
[[nodiscard]] Finding check_numa();
[[nodiscard]] Finding check_simd();
[[nodiscard]] Finding check_pidfd();
[[nodiscard]] Finding check_open_files(int num_ranks);
[[nodiscard]] Finding check_loopback();
/// One for each device, or why there is none.
[[nodiscard]] std::vector<Finding> check_cuda();

/// All of them in the order in which they are shown, and what this build does not have.
[[nodiscard]] std::vector<Finding> check_machine(int num_ranks);

}  // namespace crossdock::tool
