#include "crossdock/bench_result.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "base/cpu.hpp"

namespace crossdock::tool {

namespace {

using Member = OperationSample IterationSample::*;

double slowest_us(const BenchShared& shared, int iteration, Member member) {
  std::int64_t start = std::numeric_limits<std::int64_t>::max();
  std::int64_t end = std::numeric_limits<std::int64_t>::min();
  for (int rank = 0; rank < shared.num_ranks; ++rank) {
    const OperationSample& sample = shared.sample(iteration, rank).*member;
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

PhaseResult evaluate_phase(const BenchConfig& config, const BenchShared& shared, Member member, std::int64_t bytes) {
  std::vector<std::pair<double, int>> iterations;
  std::vector<double> times;
  iterations.reserve(static_cast<std::size_t>(config.iterations));
  times.reserve(static_cast<std::size_t>(config.iterations));
  for (int i = 0; i < config.iterations; ++i) iterations.emplace_back(slowest_us(shared, i, member), i);
  std::sort(iterations.begin(), iterations.end());
  for (const auto& [time, iteration] : iterations) times.push_back(time);

  PhaseResult result;
  result.p50_us = nearest_rank(times, 50);
  result.p90_us = nearest_rank(times, 90);
  result.p99_us = nearest_rank(times, 99);
  result.min_us = times.front();
  result.bytes = bytes;
  const auto median = std::find(times.begin(), times.end(), result.p50_us) - times.begin();
  result.parts = mean_parts(shared, iterations[static_cast<std::size_t>(median)].second, member);
  const int cores = std::min(config.num_ranks, usable_cores());
  result.copy_share = result.parts.copy_cpu_us * config.num_ranks / (result.p50_us * cores);
  return result;
}

}  // namespace

double nearest_rank(const std::vector<double>& sorted, double p) {
  const auto rank = static_cast<std::size_t>(std::ceil(p / 100 * static_cast<double>(sorted.size())));
  return sorted[std::clamp<std::size_t>(rank, 1, sorted.size()) - 1];
}

BenchResult evaluate(const BenchConfig& config, const BenchShared& shared, std::int64_t num_rows) {
  BenchResult result;
  result.dispatch = evaluate_phase(config, shared, &IterationSample::dispatch, num_rows * config.payload_bytes());
  result.combine = evaluate_phase(config, shared, &IterationSample::combine, num_rows * config.combine_row_bytes());
  result.verified = true;
  for (const RankSummary& rank : shared.summaries.values()) {
    result.memory.inputs_bytes += rank.inputs_bytes;
    result.memory.received_bytes += rank.received_bytes;
    result.memory.outputs_bytes += rank.outputs_bytes;
    result.memory.pss_bytes += rank.pss_bytes;
    result.verified = result.verified && rank.verified;
    if (result.mismatch.empty()) result.mismatch = rank.mismatch.data();
  }
  return result;
}

}  // namespace crossdock::tool
