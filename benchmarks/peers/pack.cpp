#include "pack.hpp"

#include <array>
#include <bit>
#include <numeric>

#include "common/spread.hpp"

namespace peers {
namespace {

using benchmarks::Prefetch;
using benchmarks::Store;

/// Blocks up to this size are still in the cache when MPI reads them.
constexpr std::size_t kCachedBytes = std::size_t{1} << 20;

template <Store kStore>
void pack_rows_with(const Job& job, std::span<std::byte* const> bases) {
  const std::size_t row_bytes = job.options->row_bytes();
  std::array<std::byte*, kMostRanks> destinations;
  for (std::size_t token = 0; token < job.options->tokens; ++token) {
    const auto places = job.routing->places_of(token);
    for (std::size_t i = 0; i < places.size(); ++i) {
      destinations[i] =
          bases[static_cast<std::size_t>(places[i].rank)] + static_cast<std::size_t>(places[i].index) * row_bytes;
    }
    benchmarks::spread_row<kStore, 2, Prefetch::kLevel1>({.source = job.x + token * row_bytes,
                                                          .destinations = destinations.data(),
                                                          .count = places.size(),
                                                          .bytes = row_bytes,
                                                          .prefetch_bytes = 512});
  }
  benchmarks::streaming_fence();
}

}  // namespace

void pack_rows(const Job& job, std::span<std::byte* const> bases) {
  if (job.routing->places.size() * job.options->row_bytes() > kCachedBytes) {
    pack_rows_with<Store::kStreaming>(job, bases);
  } else {
    pack_rows_with<Store::kRegular>(job, bases);
  }
}

void pack_records(const Job& job, std::span<std::int32_t* const> bases) {
  const std::size_t topk = job.options->topk;
  const ExpertBlocks blocks{job.options->experts, static_cast<std::size_t>(job.ranks)};
  for (std::size_t token = 0; token < job.options->tokens; ++token) {
    const std::int32_t* ids = job.routing->ids.data() + token * topk;
    const float* weights = job.routing->weights.data() + token * topk;
    for (const Place& place : job.routing->places_of(token)) {
      const auto destination = static_cast<std::size_t>(place.rank);
      const auto begin = static_cast<std::int32_t>(blocks.begin(destination));
      const auto end = static_cast<std::int32_t>(blocks.begin(destination + 1));
      std::int32_t* record = bases[destination] + static_cast<std::size_t>(place.index) * record_words(*job.options);
      *record++ = static_cast<std::int32_t>(token);
      for (std::size_t k = 0; k < topk; ++k) {
        const bool local = ids[k] >= begin && ids[k] < end;
        record[k] = local ? ids[k] - begin : -1;
        record[topk + k] = local ? std::bit_cast<std::int32_t>(weights[k]) : 0;
      }
    }
  }
}

std::vector<int> offsets_of(const std::vector<int>& counts) {
  std::vector<int> offsets(counts.size());
  std::exclusive_scan(counts.begin(), counts.end(), offsets.begin(), 0);
  return offsets;
}

int sum_of(const std::vector<int>& counts) { return std::accumulate(counts.begin(), counts.end(), 0); }

}  // namespace peers
