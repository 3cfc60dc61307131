#include "verify.hpp"

#include <algorithm>
#include <bit>
#include <cstdio>
#include <cstring>

#include "pack.hpp"

namespace peers {
namespace {

/// Checks what one source sent to this rank. first: the place of its first row.
bool verify_source(const Job& job, const Received& received, int source, std::size_t first) {
  const Routing routing = make_routing(*job.options, source, job.ranks);
  const std::size_t words = record_words(*job.options, Records::kIdsAndWeights);
  const auto count = static_cast<std::size_t>(routing.counts[static_cast<std::size_t>(job.rank)]);
  if (static_cast<int>(count) != (*received.counts)[static_cast<std::size_t>(source)]) return false;
  // The records as this rank would have packed them, had it been the source.
  std::vector<std::vector<std::int32_t>> expected;
  std::vector<std::int32_t*> bases;
  for (const int rows : routing.counts) expected.emplace_back(static_cast<std::size_t>(rows) * words);
  for (auto& records : expected) bases.push_back(records.data());
  Job sender = job;
  sender.routing = &routing;
  pack_records(sender, Records::kIdsAndWeights, bases);
  const auto& records = expected[static_cast<std::size_t>(job.rank)];
  if (!std::equal(records.begin(), records.end(), received.records + first * words)) return false;
  std::vector<std::uint16_t> row(job.options->hidden);
  for (std::size_t i = 0; i < count; ++i) {
    fill_row(source, static_cast<std::size_t>(records[i * words]), row);
    const std::byte* seen = received.rows + (first + i) * job.options->row_bytes();
    if (std::memcmp(seen, row.data(), job.options->row_bytes()) != 0) return false;
  }
  return true;
}

bool verify_token(const Job& job, std::size_t token) {
  std::vector<std::uint16_t> row(job.options->hidden);
  fill_row(job.rank, token, row);
  const std::size_t contributions = job.routing->places_of(token).size();
  for (auto& value : row) {
    float sum = 0;
    for (std::size_t i = 0; i < contributions; ++i) sum += to_float(value);
    value = to_bfloat16(sum);
  }
  return std::memcmp(job.result + token * job.options->row_bytes(), row.data(), job.options->row_bytes()) == 0;
}

}  // namespace

float to_float(std::uint16_t bits) { return std::bit_cast<float>(static_cast<std::uint32_t>(bits) << 16U); }

std::uint16_t to_bfloat16(float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  return static_cast<std::uint16_t>((bits + 0x7FFFU + ((bits >> 16U) & 1U)) >> 16U);
}

void fill_row(int rank, std::size_t token, std::span<std::uint16_t> row) {
  std::uint64_t state = (static_cast<std::uint64_t>(rank) << 32U | token) * 0x9E3779B97F4A7C15U + 1;
  for (auto& value : row) {
    state = state * 6364136223846793005U + 1442695040888963407U;
    const auto random = static_cast<std::uint32_t>(state >> 40U);
    const std::uint32_t exponent = 120 + (random >> 8U) % 11;
    value = static_cast<std::uint16_t>((random & 0x8000U) | exponent << 7U | (random & 0x7FU));
  }
}

bool verify(const Job& job, const Received& received) {
  std::size_t first = 0;
  for (int source = 0; source < job.ranks; ++source) {
    if (!verify_source(job, received, source, first)) {
      std::fprintf(stderr, "rank %d: what rank %d sent is not what it had to send\n", job.rank, source);
      return false;
    }
    first += static_cast<std::size_t>((*received.counts)[static_cast<std::size_t>(source)]);
  }
  for (std::size_t token = 0; token < job.options->tokens; ++token) {
    if (!verify_token(job, token)) {
      std::fprintf(stderr, "rank %d: the combined row of token %zu is wrong\n", job.rank, token);
      return false;
    }
  }
  return true;
}

}  // namespace peers
