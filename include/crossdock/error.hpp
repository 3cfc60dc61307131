// The one exception type of crossdock.
#pragma once

#include <cstdint>
#include <optional>
#include <source_location>
#include <stdexcept>
#include <string>
#include <string_view>

#include <crossdock/export.hpp>

namespace crossdock {

enum class ErrorCode : std::uint8_t {
  kInvalidArgument,  ///< an argument is wrong on this rank, or on the rank that Error::rank() names
  kMismatch,         ///< ranks called the same operation with arguments that do not fit together
  kCapacity,         ///< an arena, a table or a limit is too small; the message says what would do
  kTimeout,          ///< a deadline passed; Error::wait() says who was waited for
  kPeerLost,         ///< a peer died, left, or gave up
  kBootstrap,        ///< ranks could not find or did not trust each other
  kSystem,           ///< the operating system refused; Error::system_error() has errno
  kState,            ///< the object cannot do this now: destroyed, or broken by an earlier error
  kFormat,           ///< a file or a message is malformed
  kUnsupported,      ///< this build or this machine cannot do it
};

[[nodiscard]] CROSSDOCK_EXPORT std::string_view name_of(ErrorCode code) noexcept;

/// What a wait that failed was waiting for.
struct WaitFailure {
  std::string operation;    ///< "dispatch", "combine", "bootstrap", ...
  std::string phase;        ///< "announce", "place", "send", ...
  std::uint64_t epoch = 0;  ///< number of the operation in its buffer, from 1
  int rank = -1;            ///< the rank waited for
  std::uint64_t expected = 0;
  std::uint64_t seen = 0;
};

/// Every failure that crossdock reports. The text says what was given, what is allowed, and which rank.
/// Copyable; safe to move between threads.
class CROSSDOCK_EXPORT Error : public std::runtime_error {
 public:
  Error(ErrorCode code, const std::string& message, std::source_location where = std::source_location::current());

  [[nodiscard]] ErrorCode code() const noexcept { return code_; }
  /// The rank at fault, or -1 if no single rank is.
  [[nodiscard]] int rank() const noexcept { return rank_; }
  /// errno of the failed call, or 0.
  [[nodiscard]] int system_error() const noexcept { return system_error_; }
  [[nodiscard]] const std::optional<WaitFailure>& wait() const noexcept { return wait_; }
  [[nodiscard]] const std::source_location& where() const noexcept { return where_; }

  Error& with_rank(int rank) noexcept;
  Error& with_system_error(int error) noexcept;
  Error& with_wait(WaitFailure wait);

 private:
  ErrorCode code_;
  int rank_ = -1;
  int system_error_ = 0;
  std::optional<WaitFailure> wait_;
  std::source_location where_;
};

}  // namespace crossdock
