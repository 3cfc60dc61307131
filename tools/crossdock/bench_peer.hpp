// What a rank of a benchmark does alike in both modes: meet the others, and say what it found.
#pragma once

#include <string>

#include "crossdock/bench_config.hpp"
#include "crossdock/bench_shared.hpp"

namespace crossdock::tool {

/// CLOCK_MONOTONIC.
[[nodiscard]] std::int64_t now_ns();

class BenchPeer {
 public:
  BenchPeer(const BenchConfig& config, const BenchShared& shared, int rank);

  [[nodiscard]] RankSummary& summary() const { return shared_.summary(rank_); }
  /// Waits for all ranks. Yields at once if there are more ranks than cores.
  void barrier() const;
  /// Notes the memory in use while every rank holds all that it has. Collective.
  void measure_memory(std::int64_t received_bytes) const;
  /// Keeps the first difference; an empty text is none.
  void report(const std::string& mismatch) const;
  /// All differences have been reported.
  void finish() const { summary().verified = summary().mismatch[0] == '\0'; }
  void count_iteration() const;

 private:
  const BenchConfig& config_;
  const BenchShared& shared_;
  int rank_;
  int spins_;
};

/// Options of a benchmark's buffer but for the arena.
[[nodiscard]] BufferOptions make_bench_buffer_options(const BenchConfig& config, Device device,
                                                      std::size_t arena_bytes);

}  // namespace crossdock::tool
