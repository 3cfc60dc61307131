#include "plan/route.hpp"

#include <algorithm>
#include <bit>
#include <cstring>

namespace crossdock::plan {

namespace {

constexpr std::size_t kRanksPerMask = 64;

/// Some of a token's flags as bits, and how many of them are set.
struct Mask {
  std::uint64_t bits = 0;
  std::uint32_t count = 0;
};

/// Of flags[0 .. count), count <= 8. Word arithmetic, because a branch for each flag would be mispredicted half the
/// time.
Mask mask_of_word(const std::uint8_t* flags, std::size_t count) {
  static_assert(std::endian::native == std::endian::little, "byte r of a word is taken to be flag r");
  std::uint64_t word = 0;
  if (count == sizeof(word)) {
    std::memcpy(&word, flags, sizeof(word));
  } else {
    for (std::size_t r = 0; r < count; ++r) word |= std::uint64_t{flags[r]} << (8 * r);
  }
  constexpr std::uint64_t kLow7 = 0x7F7F7F7F7F7F7F7F;
  constexpr std::uint64_t kGather = 0x0102040810204080;  // moves bit 8 r to bit 56 + r
  constexpr std::uint64_t kSum = 0x0101010101010101;     // adds all bytes into the highest
  const std::uint64_t ones = ((((word & kLow7) + kLow7) | word) & ~kLow7) >> 7U;
  return {(ones * kGather) >> 56U, static_cast<std::uint32_t>((ones * kSum) >> 56U)};
}

/// Of flags[0 .. count), count <= 64.
Mask mask_of(const std::uint8_t* flags, std::size_t count) {
  Mask result;
  for (std::size_t r = 0; r < count; r += 8) {
    const Mask word = mask_of_word(flags + r, std::min<std::size_t>(8, count - r));
    result.bits |= word.bits << r;
    result.count += word.count;
  }
  return result;
}

/// Fills table.begin; the masks [num_tokens, groups of ranks] tell the destinations.
std::vector<std::uint64_t> count_destinations(std::span<const std::uint8_t> flags, std::size_t num_ranks,
                                              RouteTable& table) {
  const auto tokens = static_cast<std::size_t>(table.num_tokens());
  std::vector<std::uint64_t> masks;
  masks.reserve(tokens * ((num_ranks + kRanksPerMask - 1) / kRanksPerMask));
  std::uint32_t entries = 0;
  for (std::size_t t = 0; t < tokens; ++t) {
    for (std::size_t first = 0; first < num_ranks; first += kRanksPerMask) {
      const Mask mask = mask_of(&flags[t * num_ranks + first], std::min(kRanksPerMask, num_ranks - first));
      masks.push_back(mask.bits);
      entries += mask.count;
    }
    table.begin[t + 1] = static_cast<std::int32_t>(entries);
  }
  return masks;
}

}  // namespace

RouteTable make_route_table(std::span<const std::uint8_t> is_token_in_rank, std::int64_t num_tokens, int num_ranks) {
  const auto tokens = static_cast<std::size_t>(num_tokens);
  const auto ranks = static_cast<std::size_t>(num_ranks);
  RouteTable table;
  table.begin.resize(tokens + 1);
  const std::vector<std::uint64_t> masks = count_destinations(is_token_in_rank.first(tokens * ranks), ranks, table);
  table.rank.resize(static_cast<std::size_t>(table.begin.back()));
  table.row.resize(table.rank.size());

  std::vector<std::int32_t> next_row(ranks);
  std::size_t entry = 0;
  const std::uint64_t* mask = masks.data();
  for (std::size_t t = 0; t < tokens; ++t) {
    for (std::size_t first = 0; first < ranks; first += kRanksPerMask) {
      for (std::uint64_t bits = *mask++; bits != 0; bits &= bits - 1) {
        const std::size_t rank = first + static_cast<std::size_t>(std::countr_zero(bits));
        table.rank[entry] = static_cast<std::int32_t>(rank);
        table.row[entry] = next_row[rank]++;
        ++entry;
      }
    }
  }
  return table;
}

std::int64_t CountMatrix::row_begin(int src, int dst) const noexcept {
  std::int64_t sum = 0;
  for (int s = 0; s < src; ++s) sum += at(s, dst);
  return sum;
}

}  // namespace crossdock::plan
