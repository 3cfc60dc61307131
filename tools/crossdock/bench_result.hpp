// What a benchmark found out.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "crossdock/bench_config.hpp"
#include "crossdock/bench_shared.hpp"

namespace crossdock::tool {

struct PhaseResult {
  double p50_us = 0;  ///< percentiles over iterations, by nearest rank
  double p90_us = 0;
  double p99_us = 0;
  double min_us = 0;
  std::int64_t bytes = 0;    ///< payload of one iteration, all ranks
  Buffer::PhaseTimes parts;  ///< normal mode: of the median iteration, means over ranks
  double copy_share = 0;     ///< of the time of the cores that the ranks have, what copying took in that iteration

  [[nodiscard]] double gb_per_s() const { return p50_us > 0 ? static_cast<double>(bytes) / (p50_us * 1e3) : 0; }
};

struct BenchResult {
  PhaseResult dispatch;
  PhaseResult combine;
  /// Low-latency mode: dispatch, expert and combine in a loop without barriers; percentiles over blocks of the time of
  /// a loop, bytes of one loop, no parts.
  std::optional<PhaseResult> round_trip;
  /// The rows of a low-latency combine, all ranks: combine.bytes as bfloat16, and as LogFMT this many.
  std::optional<std::int64_t> wire_bytes;
  RankSummary memory;   ///< sums over ranks
  int num_devices = 0;  ///< that the ranks were on; 0 on the host
  bool verified = false;
  std::string mismatch;
};

/// What LogFMT saves of the bytes of bfloat16, in percent; 0 of nothing. REQUIRES: result.wire_bytes.
[[nodiscard]] double saved_percent(const BenchResult& result);

/// The value below or at which p percent of the values are; p in (0, 100]. REQUIRES: `sorted` is sorted and not empty.
[[nodiscard]] double nearest_rank(const std::vector<double>& sorted, double p);

/// An iteration takes from the first rank's start to the last rank's end. `num_rows` are the rows that all ranks
/// receive, (token, expert) rows in low-latency mode.
[[nodiscard]] BenchResult evaluate(const BenchConfig& config, const BenchShared& shared, std::int64_t num_rows);

}  // namespace crossdock::tool
