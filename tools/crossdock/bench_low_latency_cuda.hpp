// What one rank of a benchmark of low-latency mode does on a CUDA device.
#pragma once

#include <memory>

#include <crossdock/bootstrap.hpp>

#include "crossdock/bench_shared.hpp"
#include "crossdock/bench_verify.hpp"

namespace crossdock::tool {

/// As run_low_latency_bench_rank, but operations are captured into CUDA graphs, one after the other, and the device
/// times a launch: of dispatches, of combines of one dispatch, and of pairs for the round trips. Experts do nothing
/// there: the rows of a bfloat16 dispatch are combined in place if config.combine_source says so, else what is combined
/// is undefined. What is compared with the oracle are rounds outside the graphs.
void run_low_latency_cuda_bench_rank(const BenchWorld& world, const BenchShared& shared,
                                     const std::shared_ptr<Bootstrap>& bootstrap);

}  // namespace crossdock::tool
