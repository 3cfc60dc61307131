#include "base/error.hpp"

#include <system_error>

namespace crossdock {

std::string_view name_of(ErrorCode code) noexcept {
  switch (code) {
    case ErrorCode::kInvalidArgument: return "invalid argument";
    case ErrorCode::kMismatch: return "mismatch between ranks";
    case ErrorCode::kCapacity: return "capacity";
    case ErrorCode::kTimeout: return "timeout";
    case ErrorCode::kPeerLost: return "peer lost";
    case ErrorCode::kBootstrap: return "bootstrap";
    case ErrorCode::kSystem: return "system";
    case ErrorCode::kState: return "state";
    case ErrorCode::kFormat: return "format";
    case ErrorCode::kUnsupported: return "unsupported";
  }
  return "unknown";
}

Error::Error(ErrorCode code, const std::string& message, std::source_location where)
    : std::runtime_error(message), code_(code), where_(where) {}

Error& Error::with_rank(int rank) noexcept {
  rank_ = rank;
  return *this;
}

Error& Error::with_system_error(int error) noexcept {
  system_error_ = error;
  return *this;
}

Error& Error::with_wait(WaitFailure wait) {
  rank_ = wait.rank;
  wait_ = std::move(wait);
  return *this;
}

Error system_error(const std::string& what, int error, std::source_location where) {
  Error result(ErrorCode::kSystem, what + ": " + std::generic_category().message(error), where);
  result.with_system_error(error);
  return result;
}

}  // namespace crossdock
