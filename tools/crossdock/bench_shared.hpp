// What the ranks of a benchmark share with each other and with their launcher.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <cstdio>
#include <string>

#include <crossdock/buffer.hpp>

#include "crossdock/shared_block.hpp"
#include "crossdock/spin_barrier.hpp"

namespace crossdock::tool {

struct OperationSample {
  std::int64_t start_ns = 0;  ///< CLOCK_MONOTONIC, which all processes share
  std::int64_t end_ns = 0;
  Buffer::PhaseTimes parts;
};

struct IterationSample {
  OperationSample dispatch;
  OperationSample combine;
};

struct RankSummary {
  std::int64_t inputs_bytes = 0;
  std::int64_t received_bytes = 0;
  std::int64_t outputs_bytes = 0;
  std::int64_t wire_bytes = 0;        ///< of the rows of a combine as LogFMT, if they travel so
  std::int64_t pss_bytes = 0;         ///< proportional set size of the rank's process; 0 if another rank counts it
  std::int64_t loop_allocations = 0;  ///< of the rank's thread in all loops of the round trips
  int device = 0;                     ///< index of the rank's device
  bool verified = false;
  std::array<char, 256> mismatch{};  ///< the first difference, for people

  void set_mismatch(const std::string& text) { std::snprintf(mismatch.data(), mismatch.size(), "%s", text.c_str()); }
};

struct BenchShared {
  static constexpr int kRoundTripBlocks = 10;  ///< each of as many loops as there are iterations

  BenchShared(int num_ranks_value, int iterations)
      : num_ranks(num_ranks_value),
        samples(static_cast<std::size_t>(num_ranks) * static_cast<std::size_t>(iterations)),
        round_trips(static_cast<std::size_t>(kRoundTripBlocks) * static_cast<std::size_t>(num_ranks)),
        summaries(static_cast<std::size_t>(num_ranks)) {}

  [[nodiscard]] IterationSample& sample(int iteration, int rank) const {
    return samples[static_cast<std::size_t>(iteration) * static_cast<std::size_t>(num_ranks) +
                   static_cast<std::size_t>(rank)];
  }
  [[nodiscard]] OperationSample& round_trip(int block, int rank) const {
    return round_trips[static_cast<std::size_t>(block) * static_cast<std::size_t>(num_ranks) +
                       static_cast<std::size_t>(rank)];
  }
  [[nodiscard]] RankSummary& summary(int rank) const { return summaries[static_cast<std::size_t>(rank)]; }

  int num_ranks;
  SharedBlock<SpinBarrier> barrier{1};
  SharedBlock<std::atomic<int>> iterations_done{1};  ///< of rank 0, warm-up included; for a progress line
  SharedBlock<IterationSample> samples;              ///< [iteration, rank]
  SharedBlock<OperationSample> round_trips;          ///< [block, rank], low-latency mode only
  SharedBlock<RankSummary> summaries;                ///< [rank]
};

}  // namespace crossdock::tool
