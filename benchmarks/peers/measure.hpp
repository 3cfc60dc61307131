// Times of a phase: of each iteration, from the first rank that starts to the last that ends.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "exchange.hpp"

namespace peers {

struct Phase {
  std::vector<double> sorted_us;  // of rank 0; empty elsewhere
  std::uint64_t bytes = 0;        // token-rank payload of all ranks

  /// fraction in [0, 1]; the nearest rank.
  [[nodiscard]] double quantile_us(double fraction) const;
  [[nodiscard]] double gb_per_s() const { return static_cast<double>(bytes) / quantile_us(0.5) / 1e3; }
};

struct Variant {
  std::string name;
  Phase dispatch;
  Phase combine;
  Phase round_trip;  // without samples unless asked for
  bool verified = false;
};

/// Collective. Two iterations, or blocks of round trips, warm up; the last one is verified.
[[nodiscard]] Variant measure(const std::string& name, const Job& job, Exchange& exchange);

}  // namespace peers
