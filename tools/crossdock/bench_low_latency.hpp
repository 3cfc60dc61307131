// What one rank of a benchmark of low-latency mode does.
#pragma once

#include <memory>

#include <crossdock/bootstrap.hpp>

#include "crossdock/bench_shared.hpp"
#include "crossdock/bench_verify.hpp"

namespace crossdock::tool {

/// Warms up, times config.iterations rounds of dispatch and combine into `shared`, compares the last one with the
/// oracle, then times blocks of rounds without barriers between them (shared.round_trips) and compares the last result,
/// and does one more round, untimed, in which every expert marks its rows, and compares that too.
/// Collective. Throws what the buffer throws; then the other ranks do not wait for this one.
void run_low_latency_bench_rank(const BenchWorld& world, const BenchShared& shared,
                                const std::shared_ptr<Bootstrap>& bootstrap);

}  // namespace crossdock::tool
