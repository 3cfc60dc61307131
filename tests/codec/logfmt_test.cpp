#include "codec/logfmt.hpp"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <vector>

#include "base/error.hpp"
#include "codec/logfmt_scale.hpp"
#include "support/draw.hpp"

namespace crossdock::codec {
namespace {

using crossdock::testing::Draw;

using Row = std::vector<Bfloat16>;
using Wire = std::vector<std::byte>;

Row row_of(std::size_t hidden, float first, float rest) {
  Row row(hidden, to_bfloat16(rest));
  for (std::size_t i = 0; i < hidden; i += 128) row[i] = to_bfloat16(first);
  return row;
}

Wire encode(const Row& row) {
  const auto hidden = static_cast<std::int64_t>(row.size());
  Wire wire(static_cast<std::size_t>(logfmt_max_bytes(hidden)), std::byte{0xA5});
  const std::size_t bytes = encode_logfmt(row, wire);
  EXPECT_EQ(bytes, static_cast<std::size_t>(logfmt_wire_bytes(row)));
  for (std::size_t i = bytes; i < wire.size(); ++i) EXPECT_EQ(wire[i], std::byte{0xA5}) << i;
  wire.resize(bytes);
  return wire;
}

std::vector<float> decode(const Wire& wire, std::size_t hidden) {
  std::vector<float> row(hidden);
  EXPECT_EQ(decode_logfmt(wire, row), wire.size());
  return row;
}

std::vector<std::uint32_t> bits_of(const std::vector<float>& values) {
  std::vector<std::uint32_t> result;
  for (const float value : values) result.push_back(std::bit_cast<std::uint32_t>(value));
  return result;
}

Row rounded_to_bfloat16(const std::vector<float>& values) {
  Row row;
  for (const float value : values) row.push_back(to_bfloat16(value));
  return row;
}

int byte_at(const Wire& wire, std::size_t i) { return std::to_integer<int>(wire[i]); }

TEST(LogFmtSizes, AreDeepEpsWhereItHasThem) {
  // 56 groups of four bytes; seven chunks of 1024 elements.
  EXPECT_EQ(logfmt_meta_bytes(7168), 224);
  EXPECT_EQ(logfmt_max_bytes(7168), 224 + 14336);
  EXPECT_EQ(logfmt_chunk_elements(7168), 1024);
  EXPECT_EQ(logfmt_wire_bytes(row_of(7168, 0.5F, 0.25F)), 224 + 7168 * 10 / 8);
  EXPECT_EQ(logfmt_meta_bytes(2560), 80);
  EXPECT_EQ(logfmt_chunk_elements(2560), 512);
  EXPECT_EQ(logfmt_wire_bytes(row_of(2560, 0.5F, 0.25F)), 80 + 3200);
}

TEST(LogFmtSizes, OfOtherRows) {
  EXPECT_EQ(logfmt_meta_bytes(0), 0);
  EXPECT_EQ(logfmt_wire_bytes({}), 0);
  EXPECT_EQ(logfmt_meta_bytes(1), 16);
  EXPECT_EQ(logfmt_max_bytes(1), 18);
  EXPECT_EQ(logfmt_wire_bytes(row_of(1, 0.5F, 0.25F)), 18);
  // A chunk of 512 and one of 188 elements in 12 packs; six groups.
  EXPECT_EQ(logfmt_wire_bytes(row_of(700, 0.5F, 0.25F)), 32 + 640 + 240);
}

TEST(LogFmtSizes, AreNeverAboveTheMaximum) {
  for (std::size_t hidden = 0; hidden < 1200; ++hidden) {
    const Row row = row_of(hidden, 0.5F, 0.25F);
    EXPECT_LE(logfmt_wire_bytes(row), logfmt_max_bytes(static_cast<std::int64_t>(hidden))) << hidden;
  }
  // Codes that do not save a byte are not used: 10 elements take 20 bytes either way, 20 elements 40.
  EXPECT_EQ(logfmt_wire_bytes(row_of(10, 0.5F, 0.25F)), 16 + 20);
  EXPECT_EQ(encode(row_of(20, 0.5F, 0.25F))[16 + 38], std::byte{0x80});  // a bfloat16
  EXPECT_EQ(logfmt_wire_bytes(row_of(21, 0.5F, 0.25F)), 16 + 40);
}

TEST(LogFmtWire, HasItsBitsWhereDocumented) {
  // Sixteen elements between 2^-1 and 2^-2; the codes of the extremes are 511 and 1.
  Row row(16, to_bfloat16(0.25F));
  row[1] = to_bfloat16(-0.5F);
  row[2] = to_bfloat16(0.5F);
  row[15] = to_bfloat16(-0.5F);
  const Wire wire = encode(row);
  ASSERT_EQ(wire.size(), 16U + 20U);
  // amax, then amin, little-endian; then zeros.
  const std::vector<int> meta = {0x00, 0x3F, 0x80, 0x3E, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0};
  for (std::size_t i = 0; i < 16; ++i) EXPECT_EQ(byte_at(wire, i), meta[i]) << i;
  // Bits 9 i to 9 i + 8 are element i: 1, 511, 511, then ones up to element 14, and 511.
  std::vector<int> bits;
  for (const int code : {1, 511, 511, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 511}) {
    for (int bit = 0; bit < 9; ++bit) bits.push_back((code >> bit) & 1);
  }
  // Bit 144 + i is the sign of element i.
  for (int i = 0; i < 16; ++i) bits.push_back(i == 1 || i == 15 ? 1 : 0);
  for (std::size_t b = 0; b < 160; ++b) {
    EXPECT_EQ((byte_at(wire, 16 + b / 8) >> (b % 8)) & 1, bits[b]) << b;
  }
  EXPECT_EQ(byte_at(wire, 16 + 18), 0x02);
  EXPECT_EQ(byte_at(wire, 16 + 19), 0x80);
}

TEST(LogFmtWire, FillsAShortPackWithZeros) {
  const Wire wire = encode(row_of(21, 0.5F, 0.25F));
  ASSERT_EQ(wire.size(), 16U + 40U);
  // Five elements are 45 bits of the second pack, and their signs are positive.
  EXPECT_EQ(byte_at(wire, 16 + 20 + 5) >> 5, 0);
  for (std::size_t i = 6; i < 20; ++i) EXPECT_EQ(byte_at(wire, 16 + 20 + i), 0) << i;
}

TEST(LogFmtWire, DecodesAllCodesOfBothSigns) {
  // The meta block of one group, and 1024 / 128 packs for it eight times over.
  const LogFmtExtremes group{.amax = 0x3F7F, .amin = 0x3A01};
  for (int block = 0; block < 8; ++block) {
    Wire wire(16 + 160, std::byte{0});
    wire[0] = std::byte{0x7F};
    wire[1] = std::byte{0x3F};
    wire[2] = std::byte{0x01};
    wire[3] = std::byte{0x3A};
    for (int i = 0; i < 128; ++i) {
      const int value = block * 128 + i;
      for (int bit = 0; bit < 10; ++bit) {
        const int place = bit == 9 ? 144 + i % 16 : 9 * (i % 16) + bit;
        const auto at = static_cast<std::size_t>(16 + i / 16 * 20 + place / 8);
        wire[at] |= static_cast<std::byte>(((value >> bit) & 1) << (place % 8));
      }
    }
    const std::vector<float> row = decode(wire, 128);
    for (int i = 0; i < 128; ++i) {
      const int value = block * 128 + i;
      const float magnitude = LogFmtScale(group).decode(static_cast<std::uint32_t>(value % 512));
      EXPECT_EQ(std::abs(row[static_cast<std::size_t>(i)]), magnitude);
      EXPECT_EQ(std::signbit(row[static_cast<std::size_t>(i)]), value >= 512);
    }
  }
}

TEST(LogFmtWire, DecidesForEachChunk) {
  // Three chunks of 512; the group in the middle of the second holds a one, so that chunk stays as it is.
  Row row = row_of(1536, 0.5F, 0.3F);
  row[512 + 200] = to_bfloat16(1.0F);
  const Wire wire = encode(row);
  EXPECT_EQ(wire.size(), 48U + 640U + 1024U + 640U);
  const std::vector<float> decoded = decode(wire, row.size());
  for (std::size_t i = 512; i < 1024; ++i) EXPECT_EQ(decoded[i], to_float(row[i])) << i;
  EXPECT_NE(byte_at(wire, 48), byte_at(wire, 48 + 640));
}

TEST(LogFmtWire, KeepsWhatItCannotCastBitForBit) {
  // NaNs, infinities, zeros, constants, and every other bfloat16 whose group has no codes.
  for (const int bits : {0x7FC0, 0xFF81, 0x7F80, 0xFF80, 0x0000, 0x8000, 0x3F80, 0x3E00, 0x0001, 0x7F7F, 0x107F}) {
    Row row(1024, {static_cast<std::uint16_t>(bits)});
    const std::vector<std::uint32_t> expected(1024, static_cast<std::uint32_t>(bits) << 16U);
    EXPECT_EQ(bits_of(decode(encode(row), 1024)), expected) << std::hex << bits;
    row[3] = to_bfloat16(0.5F);
    row[900].bits = 0x7FC1;  // only its own group has a NaN, but the whole chunk is kept
    EXPECT_EQ(encode(row).size(), 32U + 2048U);
  }
}

TEST(LogFmtWire, KeepsZerosAndTheirSigns) {
  Row row(512, to_bfloat16(0.125F));
  for (std::size_t i = 0; i < row.size(); i += 2) row[i] = {static_cast<std::uint16_t>(i % 4 == 0 ? 0x0000 : 0x8000)};
  const Wire wire = encode(row);
  ASSERT_EQ(wire.size(), 16U + 640U);
  const std::vector<std::uint32_t> decoded = bits_of(decode(wire, row.size()));
  for (std::size_t i = 0; i < row.size(); i += 2) EXPECT_EQ(decoded[i], i % 4 == 0 ? 0U : 0x80000000U) << i;
}

/// Elements whose exponents spread over `octaves` below one.
Row random_row(Draw& draw, std::size_t hidden, int octaves) {
  Row row;
  for (std::size_t i = 0; i < hidden; ++i) {
    const double magnitude = std::exp2(-static_cast<double>(octaves) * draw.fraction());
    row.push_back(to_bfloat16(static_cast<float>(draw.chance(50) ? magnitude : -magnitude)));
  }
  return row;
}

TEST(LogFmtWire, RoundTripsRowsOfAnyLength) {
  Draw draw(20254);
  for (const std::size_t hidden :
       {1U, 11U, 16U, 127U, 128U, 129U, 500U, 512U, 513U, 1024U, 1536U, 2000U, 2880U, 7168U}) {
    for (const int octaves : {1, 6, 40}) {
      const Row row = random_row(draw, hidden, octaves);
      const std::vector<float> decoded = decode(encode(row), hidden);
      // (2^(octaves / 510) - 1) / 2, octaves at most 32.
      const double bound = (std::exp2(std::min(octaves + 1, 32) / 510.0) - 1) / 2 + 1e-5;
      for (std::size_t i = 0; i < hidden; ++i) {
        const double x = to_float(row[i]);
        ASSERT_NEAR(decoded[i], x, std::max(std::abs(x) * bound, 0x1p-32)) << hidden << " " << i;
      }
      const Row rounded = rounded_to_bfloat16(decoded);
      ASSERT_EQ(rounded_to_bfloat16(decode(encode(rounded), hidden)), rounded) << hidden << " " << octaves;
    }
  }
}

TEST(LogFmtWire, RefusesAWireThatIsTooShort) {
  Wire wire = encode(row_of(512, 0.5F, 0.25F));
  std::vector<float> row(512, 9.0F);
  wire.pop_back();
  EXPECT_THROW((void)decode_logfmt(wire, row), Error);
  wire.resize(15);
  EXPECT_THROW((void)decode_logfmt(wire, row), Error);
  EXPECT_EQ(row, std::vector<float>(512, 9.0F));
}

}  // namespace
}  // namespace crossdock::codec
