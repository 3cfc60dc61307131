#include "verify_low_latency.hpp"

#include <cmath>
#include <cstdio>
#include <cstring>

#include "verify.hpp"

namespace peers {
namespace {

/// Checks the next rows of each expert: those that a source had for it. Advances `next`.
bool verify_source(const Job& job, const PackedRows& packed, int source, std::vector<int>& next) {
  const Routing routing = make_routing(*job.options, source, job.ranks);
  const std::size_t topk = job.options->topk;
  const std::size_t row_bytes = job.options->row_bytes();
  std::vector<std::uint16_t> row(job.options->hidden);
  for (std::size_t token = 0; token < job.options->tokens; ++token) {
    fill_row(source, token, row);
    for (std::size_t column = token * topk; column < (token + 1) * topk; ++column) {
      if (routing.answers[column].rank != job.rank) continue;
      const std::size_t expert = static_cast<std::size_t>(routing.ids[column]) - packed.first_expert;
      if (next[expert] == (*packed.counts)[expert]) return false;
      const std::size_t place = expert * packed.rows_per_expert + static_cast<std::size_t>(next[expert]++);
      if (std::memcmp(packed.blocks + place * row_bytes, row.data(), row_bytes) != 0) return false;
    }
  }
  return true;
}

/// The row of a token as its rank should have it after combine.
std::vector<std::uint16_t> weighted_sum(const Job& job, std::size_t token, Marks marks) {
  const std::size_t hidden = job.options->hidden;
  std::vector<std::uint16_t> row(hidden);
  std::vector<float> sums(hidden, 0.0F);
  for (std::size_t column = token * job.options->topk; column < (token + 1) * job.options->topk; ++column) {
    if (job.routing->ids[column] < 0) continue;
    fill_row(job.rank, token, row);
    if (marks == Marks::kExperts) mark_row(static_cast<std::size_t>(job.routing->ids[column]), row);
    for (std::size_t i = 0; i < hidden; ++i) {
      sums[i] = std::fma(to_float(row[i]), job.routing->weights[column], sums[i]);
    }
  }
  for (std::size_t i = 0; i < hidden; ++i) row[i] = to_bfloat16(sums[i]);
  return row;
}

}  // namespace

void mark_row(std::size_t expert, std::span<std::uint16_t> row) {
  for (auto& value : row) value = static_cast<std::uint16_t>(value ^ (expert & 0x7FU));
}

bool verify_packed(const Job& job, const PackedRows& packed) {
  std::vector<int> next(packed.counts->size(), 0);
  for (int source = 0; source < job.ranks; ++source) {
    if (!verify_source(job, packed, source, next)) {
      std::fprintf(stderr, "rank %d: the experts' rows from rank %d are not what they have to be\n", job.rank, source);
      return false;
    }
  }
  if (next == *packed.counts) return true;
  std::fprintf(stderr, "rank %d: some expert has more rows than there are for it\n", job.rank);
  return false;
}

bool verify_weighted(const Job& job, Marks marks) {
  for (std::size_t token = 0; token < job.options->tokens; ++token) {
    const auto expected = weighted_sum(job, token, marks);
    if (std::memcmp(job.result + token * job.options->row_bytes(), expected.data(), job.options->row_bytes()) != 0) {
      std::fprintf(stderr, "rank %d: the weighted row of token %zu is wrong\n", job.rank, token);
      return false;
    }
  }
  return true;
}

}  // namespace peers
