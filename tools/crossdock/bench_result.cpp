#include "crossdock/bench_result.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "base/cpu.hpp"

namespace crossdock::tool {

namespace {

using Member = OperationSample IterationSample::*;

/// From the first rank's start to the last rank's end; `sample_of` gives the sample of a rank.
template <typename SampleOf>
double slowest_us(int num_ranks, SampleOf sample_of) {
  std::int64_t start = std::numeric_limits<std::int64_t>::max();
  std::int64_t end = std::numeric_limits<std::int64_t>::min();
  for (int rank = 0; rank < num_ranks; ++rank) {
    const OperationSample& sample = sample_of(rank);
    start = std::min(start, sample.start_ns);
    end = std::max(end, sample.end_ns);
  }
  return static_cast<double>(end - start) / 1e3;
}

Buffer::PhaseTimes mean_parts(const BenchShared& shared, int iteration, Member member) {
  Buffer::PhaseTimes sum;
  const double share = 1.0 / shared.num_ranks;
  for (int rank = 0; rank < shared.num_ranks; ++rank) {
    const Buffer::PhaseTimes& parts = (shared.sample(iteration, rank).*member).parts;
    sum.layout_us += share * parts.layout_us;
    sum.announce_us += share * parts.announce_us;
    sum.place_us += share * parts.place_us;
    sum.copy_us += share * parts.copy_us;
    sum.wait_us += share * parts.wait_us;
    sum.copy_cpu_us += share * parts.copy_cpu_us;
  }
  return sum;
}

PhaseResult make_phase(const std::vector<double>& sorted_times, std::int64_t bytes) {
  PhaseResult result;
  result.p50_us = nearest_rank(sorted_times, 50);
  result.p90_us = nearest_rank(sorted_times, 90);
  result.p99_us = nearest_rank(sorted_times, 99);
  result.min_us = sorted_times.front();
  result.bytes = bytes;
  return result;
}

PhaseResult evaluate_phase(const BenchConfig& config, const BenchShared& shared, Member member, std::int64_t bytes) {
  std::vector<std::pair<double, int>> iterations;
  std::vector<double> times;
  iterations.reserve(static_cast<std::size_t>(config.iterations));
  times.reserve(static_cast<std::size_t>(config.iterations));
  for (int i = 0; i < config.iterations; ++i) {
    iterations.emplace_back(
        slowest_us(
            shared.num_ranks, [&](int rank) -> const auto& { return shared.sample(i, rank).*member; }),
        i);
  }
  std::sort(iterations.begin(), iterations.end());
  for (const auto& [time, iteration] : iterations) times.push_back(time);

  PhaseResult result = make_phase(times, bytes);
  const auto median = std::find(times.begin(), times.end(), result.p50_us) - times.begin();
  result.parts = mean_parts(shared, iterations[static_cast<std::size_t>(median)].second, member);
  const int cores = std::min(config.num_ranks, usable_cores());
  result.copy_share = result.parts.copy_cpu_us * config.num_ranks / (result.p50_us * cores);
  return result;
}

PhaseResult evaluate_round_trips(const BenchConfig& config, const BenchShared& shared, std::int64_t bytes) {
  std::vector<double> times;
  for (int block = 0; block < BenchShared::kRoundTripBlocks; ++block) {
    const double time = slowest_us(
        shared.num_ranks, [&](int rank) -> const auto& { return shared.round_trip(block, rank); });
    times.push_back(time / config.iterations);
  }
  std::sort(times.begin(), times.end());
  return make_phase(times, bytes);
}

}  // namespace

double saved_percent(const BenchResult& result) {
  if (result.combine.bytes == 0) return 0;
  return 100 - 100 * static_cast<double>(*result.wire_bytes) / static_cast<double>(result.combine.bytes);
}

double nearest_rank(const std::vector<double>& sorted, double p) {
  const auto rank = static_cast<std::size_t>(std::ceil(p / 100 * static_cast<double>(sorted.size())));
  return sorted[std::clamp<std::size_t>(rank, 1, sorted.size()) - 1];
}

BenchResult evaluate(const BenchConfig& config, const BenchShared& shared, std::int64_t num_rows) {
  BenchResult result;
  result.dispatch = evaluate_phase(config, shared, &IterationSample::dispatch, num_rows * config.payload_bytes());
  result.combine = evaluate_phase(config, shared, &IterationSample::combine, num_rows * config.combine_row_bytes());
  if (config.mode == OperationMode::kLowLatency) {
    result.round_trip = evaluate_round_trips(config, shared, result.dispatch.bytes + result.combine.bytes);
  }
  if (config.use_logfmt) result.wire_bytes = 0;
  result.verified = true;
  for (const RankSummary& rank : shared.summaries.values()) {
    if (config.device != DeviceType::kHost) result.num_devices = std::max(result.num_devices, rank.device + 1);
    if (result.wire_bytes) *result.wire_bytes += rank.wire_bytes;
    result.memory.inputs_bytes += rank.inputs_bytes;
    result.memory.received_bytes += rank.received_bytes;
    result.memory.outputs_bytes += rank.outputs_bytes;
    result.memory.pss_bytes += rank.pss_bytes;
    result.memory.loop_allocations += rank.loop_allocations;
    result.verified = result.verified && rank.verified;
    if (result.mismatch.empty()) result.mismatch = rank.mismatch.data();
  }
  return result;
}

}  // namespace crossdock::tool
