// A short run of dispatch and combine against the serial reference.
#pragma once

#include <cstdint>
#include <string>

namespace crossdock::tool {

struct SelfTestResult {
  bool passed = false;
  std::string text;  ///< what was compared, or what went wrong
};

/// Four processes, random routing with skipped and repeated experts and different token counts, several rounds,
/// compared bit for bit with the reference. Takes about a second. Never throws. REQUIRES: the caller has no other
/// thread.
[[nodiscard]] SelfTestResult run_self_test(std::uint64_t seed) noexcept;

}  // namespace crossdock::tool
