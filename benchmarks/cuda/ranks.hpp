// Processes that do the same at the same time.
#pragma once

#include <sys/types.h>

#include <vector>

namespace crossdock::limits {

/// This process and its children, which go on where it is made: before anything of CUDA is used. Throws
/// std::system_error if they cannot be made.
class Ranks {
 public:
  explicit Ranks(int count);
  Ranks(const Ranks&) = delete;
  Ranks& operator=(const Ranks&) = delete;
  /// Children end here, without more ado; the parent waits for them.
  ~Ranks();

  [[nodiscard]] bool is_first() const noexcept { return rank_ == 0; }
  /// Returns when all have called it.
  void meet() noexcept;
  /// The largest of what all give. Collective.
  [[nodiscard]] double largest(double mine) noexcept;

 private:
  struct Shared;

  Shared* shared_;
  int count_;
  int rank_ = 0;
  std::vector<pid_t> children_;
};

}  // namespace crossdock::limits
