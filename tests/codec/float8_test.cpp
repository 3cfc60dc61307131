#include "codec/float8.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <bit>
#include <cmath>
#include <limits>
#include <vector>

namespace crossdock::codec {
namespace {

using ::testing::Each;
using ::testing::ElementsAre;

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

Bfloat16 bfloat16(int bits) { return {static_cast<std::uint16_t>(bits)}; }

std::vector<Bfloat16> row_of(const std::vector<float>& values) {
  std::vector<Bfloat16> row;
  for (const float value : values) row.push_back(to_bfloat16(value));
  return row;
}

/// The positive finite values in the order of their codes 0x00 to 0x7E, from the format's description.
std::array<double, 127> positive_values() {
  std::array<double, 127> result{};
  for (int code = 0; code < 127; ++code) {
    const int exponent = code / 8;
    const int mantissa = code % 8;
    result[static_cast<std::size_t>(code)] =
        exponent == 0 ? mantissa / 8.0 * std::pow(2, -6) : (1 + mantissa / 8.0) * std::pow(2, exponent - 7);
  }
  return result;
}

/// The nearest of the 256 values; of two as near the one whose code is even.
int nearest_code(float value) {
  static const std::array<double, 127> kValues = positive_values();
  if (std::isnan(value)) return 0x7F;
  const double magnitude = std::min(std::abs(static_cast<double>(value)), 1e30);
  int best = 0;
  for (int code = 1; code < 127; ++code) {
    const double distance = std::abs(kValues[static_cast<std::size_t>(code)] - magnitude);
    const double shortest = std::abs(kValues[static_cast<std::size_t>(best)] - magnitude);
    if (distance < shortest || (distance == shortest && code % 2 == 0)) best = code;
  }
  return std::signbit(value) ? best + 0x80 : best;
}

TEST(Float8, EncodesEveryBfloat16AsTheNearestValue) {
  for (int bits = 0; bits < 0x10000; ++bits) {
    const float value = to_float(bfloat16(bits));
    ASSERT_EQ(encode_float8(value), nearest_code(value)) << std::hex << bits;
  }
}

// Where half precision on the way would round twice.
TEST(Float8, DecidesAtTheMiddleOfNeighboursAndBesideIt) {
  const auto values = positive_values();
  for (std::size_t code = 0; code + 1 < values.size(); ++code) {
    const auto middle = static_cast<float>((values[code] + values[code + 1]) / 2);
    for (const float value : {middle, std::nextafter(middle, 0.0F), std::nextafter(middle, 500.0F)}) {
      ASSERT_EQ(encode_float8(value), nearest_code(value)) << value;
      ASSERT_EQ(encode_float8(-value), nearest_code(-value)) << value;
    }
  }
}

TEST(Float8, SaturatesAndHasOneNan) {
  EXPECT_EQ(encode_float8(464.0F), 0x7E);
  EXPECT_EQ(encode_float8(std::numeric_limits<float>::max()), 0x7E);
  EXPECT_EQ(encode_float8(kInfinity), 0x7E);
  EXPECT_EQ(encode_float8(-kInfinity), 0xFE);
  EXPECT_EQ(encode_float8(kNan), 0x7F);
  EXPECT_EQ(encode_float8(-kNan), 0x7F);
  EXPECT_EQ(encode_float8(std::bit_cast<float>(0xFF800001U)), 0x7F);
  EXPECT_EQ(encode_float8(-0.0F), 0x80);
  EXPECT_EQ(encode_float8(-std::numeric_limits<float>::denorm_min()), 0x80);
}

TEST(Float8, DecodesWhatTheFormatSays) {
  const auto values = positive_values();
  for (int code = 0; code < 127; ++code) {
    const auto positive = decode_float8(static_cast<std::uint8_t>(code));
    const auto negative = decode_float8(static_cast<std::uint8_t>(code + 128));
    EXPECT_EQ(positive, values[static_cast<std::size_t>(code)]);
    EXPECT_FALSE(std::signbit(positive));
    EXPECT_EQ(negative, -positive);
    EXPECT_TRUE(std::signbit(negative));
    EXPECT_EQ(encode_float8(positive), code);
    EXPECT_EQ(encode_float8(negative), code + 128);
  }
  EXPECT_EQ(std::bit_cast<std::uint32_t>(decode_float8(0x7F)), kFloat32Nan);
  EXPECT_EQ(std::bit_cast<std::uint32_t>(decode_float8(0xFF)), kFloat32Nan);
}

TEST(GroupAmax, IsTheLargestMagnitudeButNotTooSmall) {
  EXPECT_EQ(group_amax(row_of({1.0F, -3.0F, 2.0F})), 3.0F);
  EXPECT_EQ(group_amax(row_of({0x1p-14F, -0.0F})), 1e-4F);
  EXPECT_EQ(group_amax({}), 1e-4F);
}

TEST(GroupAmax, LeavesNansOutAndKeepsInfinities) {
  EXPECT_EQ(group_amax(row_of({kNan, 2.0F, kNan})), 2.0F);
  EXPECT_EQ(group_amax(row_of({kNan, -kNan})), 1e-4F);
  EXPECT_EQ(group_amax(row_of({1.0F, -kInfinity, kNan})), kInfinity);
}

TEST(GroupScale, OfEveryAmax) {
  const float inverse_of_max = 1.0F / 448.0F;
  for (int bits = 0; bits < 0x7F80; ++bits) {
    const std::vector<Bfloat16> group = {bfloat16(bits | 0x8000)};
    const float amax = group_amax(group);
    ASSERT_EQ(amax, std::max(to_float(bfloat16(bits)), 1e-4F));
    const GroupScale scale = scale_of(amax, ScaleRounding::kNone);
    ASSERT_EQ(scale.multiplier, 448.0F / amax);
    ASSERT_EQ(scale.stored, amax * inverse_of_max);
  }
}

TEST(GroupScale, RoundsEveryAmaxUpToAPowerOfTwo) {
  std::vector<bool> seen(256, false);
  for (int bits = 0; bits < 0x7F80; ++bits) {
    const double amax = std::max(static_cast<double>(to_float(bfloat16(bits))), static_cast<double>(1e-4F));
    const GroupScale scale = scale_of(static_cast<float>(amax), ScaleRounding::kPowerOfTwo);
    // The least power of two with amax / stored <= 448, compared in exact arithmetic.
    ASSERT_LE(amax, 448.0 * scale.stored) << bits;
    ASSERT_GT(amax, 448.0 * scale.stored / 2) << bits;
    ASSERT_EQ(scale.stored * scale.multiplier, 1.0F) << bits;
    const std::vector<float> scales = {scale.stored};
    std::vector<std::int32_t> packed(1);
    pack_ue8m0(scales, packed);
    ASSERT_EQ(std::ldexp(1.0F, packed[0] - 127), scale.stored);
    seen[static_cast<std::size_t>(packed[0])] = true;
  }
  // From 2^-22 (amax 1e-4) to 2^120 (amax just below 2^128), and nothing else.
  for (int byte = 0; byte < 256; ++byte) EXPECT_EQ(seen[static_cast<std::size_t>(byte)], byte >= 105 && byte <= 247);
}

TEST(GroupScale, OfInfinityDecodesToNan) {
  for (const ScaleRounding rounding : {ScaleRounding::kNone, ScaleRounding::kPowerOfTwo}) {
    const GroupScale scale = scale_of(kInfinity, rounding);
    EXPECT_EQ(scale.multiplier, 0.0F);
    EXPECT_EQ(scale.stored, kInfinity);
  }
}

struct Quantized {
  std::vector<std::uint8_t> values;
  std::vector<float> scales;

  Quantized(const std::vector<Bfloat16>& row, ScaleRounding rounding)
      : values(row.size()), scales(static_cast<std::size_t>(num_groups(static_cast<std::int64_t>(row.size())))) {
    quantize_row(row, rounding, values, scales);
  }
};

TEST(QuantizeRow, GivesEachGroupItsScale) {
  // Groups of 128, 128 and 44 elements, whose largest are the first, the last and the only one.
  std::vector<float> values(300, 0.0F);
  values[0] = -448.0F;
  values[127] = 7.0F;
  values[255] = 224.0F;
  values[256] = 0.5F;
  const Quantized result(row_of(values), ScaleRounding::kNone);
  EXPECT_THAT(result.scales, ElementsAre(1.0F, 0.5F, 0.5F * (1.0F / 448.0F)));
  EXPECT_EQ(result.values[0], 0xFE);
  EXPECT_EQ(result.values[127], 0x4E);  // 7 = 1.75 * 2^2
  EXPECT_EQ(result.values[255], 0x7E);
  EXPECT_EQ(result.values[256], 0x7E);
  EXPECT_EQ(result.values[299], 0x00);
}

TEST(QuantizeRow, IsWithinHalfAStep) {
  std::vector<Bfloat16> row;
  for (int i = 0; i < 1000; ++i) row.push_back(bfloat16((i * 7919) % 0x4780 + (i % 2) * 0x8000));
  for (const ScaleRounding rounding : {ScaleRounding::kNone, ScaleRounding::kPowerOfTwo}) {
    const Quantized result(row, rounding);
    for (std::size_t i = 0; i < row.size(); ++i) {
      const float scale = result.scales[i / 128];
      const float x = to_float(row[i]);
      const float decoded = decode_float8(result.values[i]) * scale;
      ASSERT_NEAR(decoded, x, std::max(std::abs(x) * (0x1p-4F + 1e-6F), scale * 0x1p-10F)) << i;
    }
  }
}

TEST(QuantizeRow, OfNansAndInfinities) {
  std::vector<float> values(384, 1.0F);
  values[5] = kNan;          // first group: only that element
  values[130] = -kInfinity;  // second group: all of it
  values[131] = -1.0F;
  for (const ScaleRounding rounding : {ScaleRounding::kNone, ScaleRounding::kPowerOfTwo}) {
    const Quantized result(row_of(values), rounding);
    EXPECT_EQ(result.values[5], 0x7F);
    EXPECT_EQ(result.scales[0], result.scales[2]);
    EXPECT_EQ(decode_float8(result.values[4]), decode_float8(result.values[300]));
    EXPECT_EQ(result.scales[1], kInfinity);
    EXPECT_EQ(result.values[130], 0x7F);
    EXPECT_EQ(result.values[129], 0x00);
    EXPECT_EQ(result.values[131], 0x80);
    for (std::size_t i = 128; i < 256; ++i) {
      EXPECT_TRUE(std::isnan(decode_float8(result.values[i]) * result.scales[1])) << i;
    }
  }
}

TEST(QuantizeRow, OfNothing) {
  const Quantized result({}, ScaleRounding::kNone);
  EXPECT_TRUE(result.scales.empty());
}

TEST(PackUe8m0, PutsFourScalesIntoAnInt32) {
  const std::vector<float> scales = {1.0F, 2.0F, 0.5F, kInfinity, 0x1p-22F};
  std::vector<std::int32_t> packed(static_cast<std::size_t>(num_packed_scales(5)), -1);
  pack_ue8m0(scales, packed);
  EXPECT_THAT(packed, ElementsAre(static_cast<std::int32_t>(0xFF7E807FU), 105));
}

TEST(Counts, RoundUp) {
  EXPECT_EQ(num_groups(0), 0);
  EXPECT_EQ(num_groups(1), 1);
  EXPECT_EQ(num_groups(128), 1);
  EXPECT_EQ(num_groups(129), 2);
  EXPECT_EQ(num_packed_scales(0), 0);
  EXPECT_EQ(num_packed_scales(4), 1);
  EXPECT_EQ(num_packed_scales(5), 2);
}

}  // namespace
}  // namespace crossdock::codec
