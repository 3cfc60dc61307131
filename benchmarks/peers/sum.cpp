#include "sum.hpp"

#include <array>

#include "common/reduce.hpp"

namespace peers {

void sum_rows(std::span<const std::byte* const> rows, std::byte* result, std::size_t row_bytes) {
  benchmarks::reduce_row<benchmarks::Store::kStreaming, 4, benchmarks::Prefetch::kLevel1>(
      {.sources = rows.data(), .count = rows.size(), .result = result, .bytes = row_bytes, .prefetch_bytes = 256});
}

void sum_all_rows(const Job& job, std::span<const std::byte* const> bases) {
  const std::size_t row_bytes = job.options->row_bytes();
  std::array<const std::byte*, kMostRanks> rows;
  for (std::size_t token = 0; token < job.options->tokens; ++token) {
    const auto places = job.routing->places_of(token);
    for (std::size_t i = 0; i < places.size(); ++i) {
      rows[i] = bases[static_cast<std::size_t>(places[i].rank)] + static_cast<std::size_t>(places[i].index) * row_bytes;
    }
    sum_rows({rows.data(), places.size()}, job.result + token * row_bytes, row_bytes);
  }
  benchmarks::streaming_fence();
}

}  // namespace peers
