// What a kernel tells the host of a failure, in words.
#pragma once

#include <functional>
#include <string>
#include <string_view>

#include <crossdock/bootstrap.hpp>
#include <crossdock/error.hpp>

#include "backend/cuda/device/control.hpp"

namespace crossdock::cuda {

struct FailureContext {
  std::string_view operation;
  int rank = 0;
  Milliseconds timeout{};
  std::function<std::string(int rank, std::uint64_t epoch)> reason_of;  ///< of a rank that refused
};

/// The Error that the host backend would throw.
[[nodiscard]] Error error_of(const device::Failure& failure, const FailureContext& context);

}  // namespace crossdock::cuda
