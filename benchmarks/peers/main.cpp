// Dispatch and combine as a user would write them with MPI: what crossdock is compared with.
#include <mpi.h>

#include <cstdio>
#include <exception>
#include <memory>
#include <stdexcept>

#include "alltoallv.hpp"
#include "low_latency.hpp"
#include "memory.hpp"
#include "one_sided.hpp"
#include "report.hpp"
#include "verify.hpp"

namespace peers {
namespace {

std::vector<Variant> measure_low_latency(const Job& job) {
  std::vector<Variant> variants;
  variants.push_back(measure("alltoallv", job, *std::make_unique<LowLatency>(job)));
  variants.push_back(measure("alltoallv_throughput", job, *std::make_unique<Alltoallv>(job, SelfRows::kThroughMpi)));
  return variants;
}

std::vector<Variant> measure_all(const Job& job) {
  if (job.options->mode == Mode::kLowLatency) return measure_low_latency(job);
  std::vector<Variant> variants;
  variants.push_back(measure("alltoallv", job, *std::make_unique<Alltoallv>(job, SelfRows::kThroughMpi)));
  if (job.options->direct_self) {
    variants.push_back(measure("alltoallv_direct_self", job, *std::make_unique<Alltoallv>(job, SelfRows::kDirect)));
  }
  variants.push_back(measure("one_sided", job, *std::make_unique<OneSided>(job)));
  return variants;
}

void fill(const Options& options, int rank, std::byte* x) {
  auto* values = reinterpret_cast<std::uint16_t*>(x);
  for (std::size_t token = 0; token < options.tokens; ++token) {
    fill_row(rank, token, {values + token * options.hidden, options.hidden});
  }
}

int run(const Options& options) {
  Job job{.options = &options, .rank = 0, .ranks = 1, .routing = nullptr, .x = nullptr, .result = nullptr};
  MPI_Comm_rank(MPI_COMM_WORLD, &job.rank);
  MPI_Comm_size(MPI_COMM_WORLD, &job.ranks);
  if (job.ranks > kMostRanks) throw std::invalid_argument("at most 64 ranks are possible");
  const Routing routing = make_routing(options, job.rank, job.ranks);
  const Memory x(options.tokens * options.row_bytes(), options.pages);
  const Memory result(options.tokens * options.row_bytes(), options.pages);
  fill(options, job.rank, x.data());
  job.routing = &routing;
  job.x = x.data();
  job.result = result.data();
  const auto variants = measure_all(job);
  if (job.rank == 0) {
    print_table(variants);
    if (!options.json.empty()) write_json(job, variants);
  }
  for (const Variant& one : variants) {
    if (!one.verified) return 1;
  }
  return 0;
}

}  // namespace
}  // namespace peers

int main(int argc, char** argv) {
  MPI_Init(&argc, &argv);
  int status = 2;
  try {
    const peers::Options options = peers::parse_options(argc, argv);
    if (options.help) {
      std::fputs(peers::usage(), stdout);
      status = 0;
    } else {
      status = peers::run(options);
    }
  } catch (const std::exception& error) {
    std::fprintf(stderr, "mpi_peer: %s\n", error.what());
    MPI_Abort(MPI_COMM_WORLD, 2);
  }
  MPI_Finalize();
  return status;
}
