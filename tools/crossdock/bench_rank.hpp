// What one rank of a benchmark does.
#pragma once

#include <memory>

#include <crossdock/bootstrap.hpp>

#include "crossdock/bench_shared.hpp"
#include "crossdock/bench_verify.hpp"

namespace crossdock::tool {

/// Warms up, times config.iterations rounds of dispatch and combine into `shared`, compares the last one with the
/// oracle, and does one more round, untimed, in which every rank's expert marks its rows, and compares that too.
/// Collective. Throws what the buffer throws; then the other ranks do not wait for this one.
/// `num_recv_rows` is what this rank will receive.
void run_bench_rank(const BenchWorld& world, std::int64_t num_recv_rows, const BenchShared& shared,
                    const std::shared_ptr<Bootstrap>& bootstrap);

}  // namespace crossdock::tool
