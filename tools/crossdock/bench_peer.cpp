#include "crossdock/bench_peer.hpp"

#include <ctime>

#include "base/cpu.hpp"
#include "crossdock/machine.hpp"

namespace crossdock::tool {

namespace {

constexpr int kSpins = 2000;

}  // namespace

std::int64_t now_ns() {
  timespec time{};
  ::clock_gettime(CLOCK_MONOTONIC, &time);
  return std::int64_t{time.tv_sec} * 1'000'000'000 + time.tv_nsec;
}

BenchPeer::BenchPeer(const BenchConfig& config, const BenchShared& shared, int rank)
    : config_(config), shared_(shared), rank_(rank), spins_(config.num_ranks > usable_cores() ? 0 : kSpins) {}

void BenchPeer::barrier() const {
  shared_.barrier[0].wait(config_.num_ranks, spins_, std::chrono::seconds(config_.timeout_seconds));
}

void BenchPeer::measure_memory(std::int64_t received_bytes) const {
  summary().received_bytes = received_bytes;
  barrier();
  const bool counts = config_.rank_mode == RankMode::kProcesses || rank_ == 0;
  summary().pss_bytes = counts ? proportional_set_size_bytes() : 0;
  barrier();
}

void BenchPeer::report(const std::string& mismatch) const {
  if (!mismatch.empty() && summary().mismatch[0] == '\0') summary().set_mismatch(mismatch);
}

void BenchPeer::count_iteration() const {
  if (rank_ == 0) shared_.iterations_done[0].fetch_add(1, std::memory_order_relaxed);
}

BufferOptions make_bench_buffer_options(const BenchConfig& config, Device device, std::size_t arena_bytes) {
  BufferOptions options;
  options.arena_bytes = arena_bytes;
  options.device = device;
  options.max_experts = *config.num_experts;
  options.timeout = std::chrono::seconds(config.timeout_seconds);
  options.setup_timeout = options.timeout;
  return options;
}

}  // namespace crossdock::tool
