// Which rank owns which expert.
#pragma once

namespace crossdock::plan {

/// E experts on R ranks in contiguous blocks; the first E % R ranks have one expert more than the others. When R
/// divides E this is DeepEP's rule, owner = expert / (E / R). With E < R the last R - E ranks own nothing.
class ExpertMap {
 public:
  /// REQUIRES: num_experts >= 1, num_ranks >= 1.
  constexpr ExpertMap(int num_experts, int num_ranks) noexcept
      : num_experts_(num_experts), small_(num_experts / num_ranks), num_large_(num_experts % num_ranks) {}

  [[nodiscard]] constexpr int num_experts() const noexcept { return num_experts_; }
  [[nodiscard]] constexpr int begin(int rank) const noexcept {
    return rank * small_ + (rank < num_large_ ? rank : num_large_);
  }
  [[nodiscard]] constexpr int count(int rank) const noexcept { return small_ + (rank < num_large_ ? 1 : 0); }
  /// REQUIRES: 0 <= expert < num_experts().
  [[nodiscard]] constexpr int owner(int expert) const noexcept {
    const int in_large = num_large_ * (small_ + 1);
    return expert < in_large ? expert / (small_ + 1) : num_large_ + (expert - in_large) / small_;
  }

 private:
  int num_experts_;
  int small_;
  int num_large_;
};

}  // namespace crossdock::plan
