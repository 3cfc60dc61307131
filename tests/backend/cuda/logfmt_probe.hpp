// The codes of LogFMT-10 as kernels compute them, run on this processor or on a CUDA device.
#pragma once

#include <cstdint>
#include <vector>

namespace crossdock::testing {

/// Sixteen bfloat16s of a group with these extremes.
struct LogFmtCase {
  std::uint16_t amax;
  std::uint16_t amin;
  std::uint16_t elements[16];
};

struct LogFmtResult {
  std::uint32_t low[4];  ///< LogFmtPack
  std::uint32_t high;    ///< LogFmtPack
  std::uint32_t castable;
  std::uint32_t values[16];   ///< what decoding the pack gives: float32 bits
  std::uint32_t decoded[16];  ///< the same of the codes that are the elements' low nine bits, without signs
};

[[nodiscard]] std::vector<LogFmtResult> logfmt_on_host(const std::vector<LogFmtCase>& cases);
/// REQUIRES: there is a device.
[[nodiscard]] std::vector<LogFmtResult> logfmt_on_device(const std::vector<LogFmtCase>& cases);

}  // namespace crossdock::testing
