#include "measure.hpp"

#include <mpi.h>

#include <algorithm>
#include <chrono>
#include <cmath>

namespace peers {
namespace {

constexpr int kWarmUp = 2;
/// Of round trips; as many as `crossdock bench` times.
constexpr int kBlocks = 10;

/// steady_clock is CLOCK_MONOTONIC, which all processes of a host share.
double now_us() {
  return std::chrono::duration<double, std::micro>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

class Stamps {
 public:
  void time(const std::function<void()>& work) {
    MPI_Barrier(MPI_COMM_WORLD);
    starts_.push_back(now_us());
    work();
    ends_.push_back(now_us());
  }

  /// Collective. Drops the warm-up; divides by what one sample holds. Sorted times on rank 0.
  [[nodiscard]] std::vector<double> elapsed(int rank, double per_sample = 1) const {
    std::vector<double> first(starts_.size());
    std::vector<double> last(ends_.size());
    const int count = static_cast<int>(starts_.size());
    MPI_Reduce(starts_.data(), first.data(), count, MPI_DOUBLE, MPI_MIN, 0, MPI_COMM_WORLD);
    MPI_Reduce(ends_.data(), last.data(), count, MPI_DOUBLE, MPI_MAX, 0, MPI_COMM_WORLD);
    std::vector<double> elapsed_us;
    if (rank != 0) return elapsed_us;
    for (std::size_t i = kWarmUp; i < first.size(); ++i) elapsed_us.push_back((last[i] - first[i]) / per_sample);
    std::sort(elapsed_us.begin(), elapsed_us.end());
    return elapsed_us;
  }

 private:
  std::vector<double> starts_;
  std::vector<double> ends_;
};

std::uint64_t payload_bytes(const Job& job, const Exchange& exchange) {
  std::uint64_t own = exchange.payload_rows() * job.options->row_bytes();
  std::uint64_t all = 0;
  MPI_Allreduce(&own, &all, 1, MPI_UINT64_T, MPI_SUM, MPI_COMM_WORLD);
  return all;
}

bool verified_everywhere(Exchange& exchange) {
  int own = exchange.verify() ? 1 : 0;
  int all = 0;
  MPI_Allreduce(&own, &all, 1, MPI_INT, MPI_LAND, MPI_COMM_WORLD);
  return all != 0;
}

Phase measure_round_trips(const Job& job, Exchange& exchange) {
  Stamps stamps;
  for (int i = 0; i < kWarmUp + kBlocks; ++i) {
    stamps.time([&] {
      for (int trip = 0; trip < job.options->loop; ++trip) {
        exchange.dispatch();
        exchange.run_expert();
        exchange.combine();
      }
    });
  }
  return {stamps.elapsed(job.rank, job.options->loop), payload_bytes(job, exchange) * 2};
}

}  // namespace

double Phase::quantile_us(double fraction) const {
  if (sorted_us.empty()) return 0;
  const auto rank = std::ceil(fraction * static_cast<double>(sorted_us.size()));
  return sorted_us[static_cast<std::size_t>(std::max(1.0, rank)) - 1];
}

Variant measure(const std::string& name, const Job& job, Exchange& exchange) {
  Stamps dispatches;
  Stamps combines;
  for (int i = 0; i < kWarmUp + job.options->iterations; ++i) {
    dispatches.time([&] { exchange.dispatch(); });
    exchange.run_expert();
    combines.time([&] { exchange.combine(); });
  }
  Variant variant{.name = name,
                  .dispatch = {dispatches.elapsed(job.rank), payload_bytes(job, exchange)},
                  .combine = {combines.elapsed(job.rank), payload_bytes(job, exchange)},
                  .round_trip = {},
                  .verified = verified_everywhere(exchange)};
  if (job.options->loop > 0) {
    variant.round_trip = measure_round_trips(job, exchange);
    variant.verified = variant.verified && verified_everywhere(exchange);
  }
  return variant;
}

}  // namespace peers
