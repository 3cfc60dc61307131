#include "sum.hpp"

#include <array>
#include <vector>

#include "common/reduce.hpp"
#include "stores.hpp"

namespace peers {
namespace {

using benchmarks::Prefetch;
using benchmarks::Store;

template <Store kStore>
void sum_rows_with(std::span<const std::byte* const> rows, std::byte* result, std::size_t row_bytes) {
  benchmarks::reduce_row<kStore, 4, Prefetch::kLevel1>(
      {.sources = rows.data(), .count = rows.size(), .result = result, .bytes = row_bytes, .prefetch_bytes = 256});
}

const std::byte* row_at(std::span<const std::byte* const> bases, const Place& place, std::size_t row_bytes) {
  return bases[static_cast<std::size_t>(place.rank)] + static_cast<std::size_t>(place.index) * row_bytes;
}

}  // namespace

void sum_rows(std::span<const std::byte* const> rows, std::byte* result, std::size_t row_bytes) {
  sum_rows_with<Store::kStreaming>(rows, result, row_bytes);
}

void sum_all_rows(const Job& job, std::span<const std::byte* const> bases) {
  const std::size_t row_bytes = job.options->row_bytes();
  std::array<const std::byte*, kMostRanks> rows;
  with_stores_for(job.options->tokens * row_bytes, [&]<Store kStore>() {
    for (std::size_t token = 0; token < job.options->tokens; ++token) {
      const auto places = job.routing->places_of(token);
      for (std::size_t i = 0; i < places.size(); ++i) rows[i] = row_at(bases, places[i], row_bytes);
      sum_rows_with<kStore>({rows.data(), places.size()}, job.result + token * row_bytes, row_bytes);
    }
  });
}

void sum_all_answers(const Job& job, std::span<const std::byte* const> bases) {
  const std::size_t row_bytes = job.options->row_bytes();
  const std::size_t topk = job.options->topk;
  std::vector<const std::byte*> rows(topk);
  std::vector<float> weights(topk);
  with_stores_for(job.options->tokens * row_bytes, [&]<Store kStore>() {
    for (std::size_t token = 0; token < job.options->tokens; ++token) {
      std::size_t count = 0;
      for (std::size_t column = token * topk; column < (token + 1) * topk; ++column) {
        const Place& answer = job.routing->answers[column];
        if (answer.rank < 0) continue;
        rows[count] = row_at(bases, answer, row_bytes);
        weights[count++] = job.routing->weights[column];
      }
      benchmarks::reduce_row<kStore, 4, Prefetch::kLevel1>({.sources = rows.data(),
                                                            .weights = weights.data(),
                                                            .count = count,
                                                            .result = job.result + token * row_bytes,
                                                            .bytes = row_bytes,
                                                            .prefetch_bytes = 256});
    }
  });
}

}  // namespace peers
