#include "pack.hpp"

#include <array>
#include <bit>
#include <numeric>

#include "common/spread.hpp"
#include "stores.hpp"

namespace peers {
namespace {

template <benchmarks::Store kStore>
void pack_rows_with(const Job& job, std::span<std::byte* const> bases) {
  const std::size_t row_bytes = job.options->row_bytes();
  std::array<std::byte*, kMostRanks> destinations;
  for (std::size_t token = 0; token < job.options->tokens; ++token) {
    const auto places = job.routing->places_of(token);
    for (std::size_t i = 0; i < places.size(); ++i) {
      destinations[i] =
          bases[static_cast<std::size_t>(places[i].rank)] + static_cast<std::size_t>(places[i].index) * row_bytes;
    }
    spread_row<kStore>(job.x + token * row_bytes, {destinations.data(), places.size()}, row_bytes);
  }
}

}  // namespace

void pack_rows(const Job& job, std::span<std::byte* const> bases) {
  with_stores_for(job.routing->places.size() * job.options->row_bytes(),
                  [&]<benchmarks::Store kStore>() { pack_rows_with<kStore>(job, bases); });
}

void pack_records(const Job& job, Records records, std::span<std::int32_t* const> bases) {
  const std::size_t topk = job.options->topk;
  const std::size_t words = record_words(*job.options, records);
  const ExpertBlocks blocks{job.options->experts, static_cast<std::size_t>(job.ranks)};
  for (std::size_t token = 0; token < job.options->tokens; ++token) {
    const std::int32_t* ids = job.routing->ids.data() + token * topk;
    const float* weights = job.routing->weights.data() + token * topk;
    for (const Place& place : job.routing->places_of(token)) {
      const auto destination = static_cast<std::size_t>(place.rank);
      const auto begin = static_cast<std::int32_t>(blocks.begin(destination));
      const auto end = static_cast<std::int32_t>(blocks.begin(destination + 1));
      std::int32_t* record = bases[destination] + static_cast<std::size_t>(place.index) * words;
      *record++ = static_cast<std::int32_t>(token);
      for (std::size_t k = 0; k < topk; ++k) {
        const bool local = ids[k] >= begin && ids[k] < end;
        record[k] = local ? ids[k] - begin : -1;
        if (records == Records::kIds) continue;
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
