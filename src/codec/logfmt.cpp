#include "codec/logfmt.hpp"

#include <algorithm>
#include <vector>

#include "base/error.hpp"

namespace crossdock::codec {

namespace {

constexpr std::int64_t kMetaAlignment = 16;
constexpr std::int64_t kLargeChunk = 1024;
constexpr std::int64_t kSmallChunk = 512;
constexpr int kMagnitudeBits = 9;
constexpr int kSignBegin = kMagnitudeBits * static_cast<int>(kLogFmtPackElements);

constexpr std::int64_t divide_up(std::int64_t a, std::int64_t b) { return a / b + (a % b == 0 ? 0 : 1); }

std::span<const Bfloat16> group_of(std::span<const Bfloat16> row, std::size_t group) {
  constexpr auto kGroup = static_cast<std::size_t>(kLogFmtGroupChannels);
  const std::size_t begin = group * kGroup;
  return row.subspan(begin, std::min(kGroup, row.size() - begin));
}

std::vector<LogFmtExtremes> extremes_of_row(std::span<const Bfloat16> row) {
  std::vector<LogFmtExtremes> result;
  const auto groups = static_cast<std::size_t>(divide_up(static_cast<std::int64_t>(row.size()), kLogFmtGroupChannels));
  for (std::size_t g = 0; g < groups; ++g) result.push_back(logfmt_extremes(group_of(row, g)));
  return result;
}

/// One chunk of a row: elements [begin, begin + size), bytes [offset, offset + bytes) of the wire.
struct Chunk {
  std::size_t begin;
  std::size_t size;
  std::size_t offset;
  std::size_t bytes;
  bool is_cast;
};

std::vector<Chunk> chunks_of(std::int64_t hidden, std::span<const LogFmtExtremes> groups) {
  std::vector<Chunk> result;
  const std::int64_t most = logfmt_chunk_elements(hidden);
  std::int64_t offset = logfmt_meta_bytes(hidden);
  for (std::int64_t begin = 0; begin < hidden; begin += most) {
    const std::int64_t size = std::min(most, hidden - begin);
    const auto first = static_cast<std::size_t>(begin / kLogFmtGroupChannels);
    const auto count = static_cast<std::size_t>(divide_up(size, kLogFmtGroupChannels));
    const bool is_cast = logfmt_is_cast(size, groups.subspan(first, count));
    const std::int64_t bytes = logfmt_chunk_bytes(size, is_cast);
    result.push_back({.begin = static_cast<std::size_t>(begin),
                      .size = static_cast<std::size_t>(size),
                      .offset = static_cast<std::size_t>(offset),
                      .bytes = static_cast<std::size_t>(bytes),
                      .is_cast = is_cast});
    offset += bytes;
  }
  return result;
}

/// Integers of the wire are little-endian.
void put_half(std::span<std::byte> wire, std::size_t offset, std::uint16_t value) {
  wire[offset] = static_cast<std::byte>(value & 0xFFU);
  wire[offset + 1] = static_cast<std::byte>(value >> 8U);
}

std::uint16_t get_half(std::span<const std::byte> wire, std::size_t offset) {
  const auto low = std::to_integer<unsigned>(wire[offset]);
  const auto high = std::to_integer<unsigned>(wire[offset + 1]);
  return static_cast<std::uint16_t>(low | (high << 8U));
}

/// `count` bits from bit `begin` of a pack, whose bit b is bit b % 8 of byte b / 8.
void put_bits(std::span<std::byte> pack, int begin, int count, std::uint32_t value) {
  for (int bit = 0; bit < count; ++bit) {
    const int at = begin + bit;
    pack[static_cast<std::size_t>(at / 8)] |= static_cast<std::byte>(((value >> bit) & 1U) << (at % 8));
  }
}

std::uint32_t get_bits(std::span<const std::byte> pack, int begin, int count) {
  std::uint32_t value = 0;
  for (int bit = 0; bit < count; ++bit) {
    const int at = begin + bit;
    value |= ((std::to_integer<std::uint32_t>(pack[static_cast<std::size_t>(at / 8)]) >> (at % 8)) & 1U) << bit;
  }
  return value;
}

/// The pack that holds element i of a cast chunk.
template <typename Byte>
std::span<Byte> pack_of(std::span<Byte> chunk, std::size_t i) {
  return chunk.subspan(i / kLogFmtPackElements * kLogFmtPackBytes, kLogFmtPackBytes);
}

void encode_chunk(std::span<const Bfloat16> elements, std::span<const LogFmtScale> scales, std::span<std::byte> out) {
  std::ranges::fill(out, std::byte{0});
  for (std::size_t i = 0; i < elements.size(); ++i) {
    const std::uint32_t code = scales[i / kLogFmtGroupChannels].encode(elements[i]);
    const int place = static_cast<int>(i % kLogFmtPackElements);
    put_bits(pack_of(out, i), kMagnitudeBits * place, kMagnitudeBits, code);
    put_bits(pack_of(out, i), kSignBegin + place, 1, elements[i].bits >> 15U);
  }
}

void decode_chunk(std::span<const std::byte> in, std::span<const LogFmtScale> scales, std::span<float> elements) {
  for (std::size_t i = 0; i < elements.size(); ++i) {
    const int place = static_cast<int>(i % kLogFmtPackElements);
    const std::uint32_t code = get_bits(pack_of(in, i), kMagnitudeBits * place, kMagnitudeBits);
    const float magnitude = scales[i / kLogFmtGroupChannels].decode(code);
    elements[i] = get_bits(pack_of(in, i), kSignBegin + place, 1) == 0 ? magnitude : -magnitude;
  }
}

/// REQUIRES: the chunk is cast.
std::vector<LogFmtScale> scales_of(const std::vector<LogFmtExtremes>& groups, const Chunk& chunk) {
  const auto first = groups.begin() + static_cast<std::ptrdiff_t>(chunk.begin) / kLogFmtGroupChannels;
  return {first, first + divide_up(static_cast<std::int64_t>(chunk.size), kLogFmtGroupChannels)};
}

std::size_t end_of(const std::vector<Chunk>& chunks) {
  return chunks.empty() ? 0 : chunks.back().offset + chunks.back().bytes;
}

}  // namespace

std::int64_t logfmt_meta_bytes(std::int64_t hidden) noexcept {
  constexpr std::int64_t kGroupBytes = 4;
  return divide_up(divide_up(hidden, kLogFmtGroupChannels) * kGroupBytes, kMetaAlignment) * kMetaAlignment;
}

std::int64_t logfmt_chunk_elements(std::int64_t hidden) noexcept {
  return hidden % kLargeChunk == 0 ? kLargeChunk : kSmallChunk;
}

bool logfmt_is_cast(std::int64_t elements, std::span<const LogFmtExtremes> groups) noexcept {
  return logfmt_chunk_bytes(elements, true) < logfmt_chunk_bytes(elements, false) &&
         std::ranges::all_of(groups, logfmt_castable);
}

std::int64_t logfmt_chunk_bytes(std::int64_t elements, bool is_cast) noexcept {
  return is_cast ? divide_up(elements, kLogFmtPackElements) * kLogFmtPackBytes
                 : elements * static_cast<std::int64_t>(sizeof(Bfloat16));
}

std::int64_t logfmt_max_bytes(std::int64_t hidden) noexcept {
  return logfmt_meta_bytes(hidden) + hidden * static_cast<std::int64_t>(sizeof(Bfloat16));
}

std::int64_t logfmt_wire_bytes(std::span<const Bfloat16> row) {
  return static_cast<std::int64_t>(end_of(chunks_of(static_cast<std::int64_t>(row.size()), extremes_of_row(row))));
}

std::size_t encode_logfmt(std::span<const Bfloat16> row, std::span<std::byte> wire) {
  const std::vector<LogFmtExtremes> groups = extremes_of_row(row);
  const auto hidden = static_cast<std::int64_t>(row.size());
  std::ranges::fill(wire.first(static_cast<std::size_t>(logfmt_meta_bytes(hidden))), std::byte{0});
  for (std::size_t g = 0; g < groups.size(); ++g) {
    put_half(wire, 4 * g, groups[g].amax);
    put_half(wire, 4 * g + 2, groups[g].amin);
  }
  const std::vector<Chunk> chunks = chunks_of(hidden, groups);
  for (const Chunk& chunk : chunks) {
    const auto elements = row.subspan(chunk.begin, chunk.size);
    const auto out = wire.subspan(chunk.offset, chunk.bytes);
    if (chunk.is_cast) {
      encode_chunk(elements, scales_of(groups, chunk), out);
    } else {
      for (std::size_t i = 0; i < elements.size(); ++i) put_half(out, 2 * i, elements[i].bits);
    }
  }
  return end_of(chunks);
}

std::size_t decode_logfmt(std::span<const std::byte> wire, std::span<float> row) {
  const auto hidden = static_cast<std::int64_t>(row.size());
  const auto meta_bytes = static_cast<std::size_t>(logfmt_meta_bytes(hidden));
  require(wire.size() >= meta_bytes,
          "a LogFMT row of {} elements begins with {} bytes of meta data; there are {} bytes", hidden, meta_bytes,
          wire.size());
  std::vector<LogFmtExtremes> groups(static_cast<std::size_t>(divide_up(hidden, kLogFmtGroupChannels)));
  for (std::size_t g = 0; g < groups.size(); ++g) {
    groups[g] = {.amax = get_half(wire, 4 * g), .amin = get_half(wire, 4 * g + 2)};
  }
  const std::vector<Chunk> chunks = chunks_of(hidden, groups);
  require(wire.size() >= end_of(chunks), "a LogFMT row of {} elements takes {} bytes; there are {}", hidden,
          end_of(chunks), wire.size());
  for (const Chunk& chunk : chunks) {
    const auto in = wire.subspan(chunk.offset, chunk.bytes);
    const auto elements = row.subspan(chunk.begin, chunk.size);
    if (chunk.is_cast) {
      decode_chunk(in, scales_of(groups, chunk), elements);
    } else {
      for (std::size_t i = 0; i < elements.size(); ++i) elements[i] = to_float({get_half(in, 2 * i)});
    }
  }
  return end_of(chunks);
}

}  // namespace crossdock::codec
