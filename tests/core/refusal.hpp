// Operations that every rank must refuse together, and go on.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include <crossdock/buffer.hpp>
#include <crossdock/error.hpp>

namespace crossdock::testing {

/// What one rank met.
struct Attempt {
  std::optional<Error> error;
  double milliseconds = 0;
};

/// Runs `body` on every rank of a new group of threads and keeps what each threw. Then shows on every rank that nothing
/// was lost: the arena is as empty as before, and a dispatch and a combine work. Throws if not.
[[nodiscard]] std::vector<Attempt> attempt(int num_ranks, const BufferOptions& options,
                                           const std::function<void(Buffer&)>& body);

/// What a refusal must say.
struct Refusal {
  ErrorCode code = ErrorCode::kInvalidArgument;
  int rank = -1;                   ///< that is blamed, and named in the text as "rank N"
  std::vector<std::string> texts;  ///< what was given and what is allowed
};
/// Expects the refusal on every rank, in under a second.
void expect_refusal(const std::vector<Attempt>& attempts, const Refusal& refusal);

/// Arena and deadline of tests that do not care: nothing may come near that deadline.
[[nodiscard]] BufferOptions roomy_options();

}  // namespace crossdock::testing
