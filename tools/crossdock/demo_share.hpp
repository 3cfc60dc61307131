// One rank's share of the demonstration's tokens, the same in both modes.
#pragma once

#include <chrono>
#include <utility>

#include "crossdock/demo_rank.hpp"

namespace crossdock::tool {

class Stopwatch {
 public:
  /// Microseconds since the last lap, or since this was made.
  double lap_us() {
    const auto now = std::chrono::steady_clock::now();
    return std::chrono::duration<double, std::micro>(now - std::exchange(last_, now)).count();
  }

 private:
  std::chrono::steady_clock::time_point last_ = std::chrono::steady_clock::now();
};

class DemoShare {
 public:
  DemoShare(const MoeLayer& layer, const DemoShared& shared, int rank);

  [[nodiscard]] std::int64_t num_tokens() const noexcept { return num_tokens_; }
  [[nodiscard]] Tensor x() const;             ///< bfloat16 [N, H]
  [[nodiscard]] Tensor topk_idx() const;      ///< int64 [N, K], as recorded
  [[nodiscard]] Tensor topk_weights() const;  ///< float32 [N, K], as recorded
  [[nodiscard]] DemoTimes& times() const { return shared_.times[static_cast<std::size_t>(rank_)]; }

  void enter(DemoStage stage) const;
  /// Writes combined rows, bfloat16 or float32 [N, H], to where the launcher compares them.
  void write_result(const Tensor& combined) const;

 private:
  const MoeLayer& layer_;
  const DemoShared& shared_;
  int rank_;
  std::int64_t first_;
  std::int64_t num_tokens_;
};

}  // namespace crossdock::tool
