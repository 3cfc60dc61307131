// Which pair of operations a command runs.
#pragma once

#include <string_view>

namespace crossdock::tool {

enum class OperationMode : unsigned char {
  kNormal,      ///< dispatch and combine
  kLowLatency,  ///< low_latency_dispatch and low_latency_combine
};

[[nodiscard]] constexpr std::string_view name_of(OperationMode mode) noexcept {
  return mode == OperationMode::kNormal ? "normal" : "low-latency";
}

}  // namespace crossdock::tool
