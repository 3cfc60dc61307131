#include "base/bfloat16.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace crossdock {
namespace {

float float_of(std::uint32_t bits) { return std::bit_cast<float>(bits); }

TEST(Bfloat16, SurvivesTheWayThroughFloat) {
  for (std::uint32_t bits = 0; bits <= 0xFFFF; ++bits) {
    const Bfloat16 value{static_cast<std::uint16_t>(bits)};
    const bool is_nan = (bits & 0x7FFFU) > 0x7F80U;
    EXPECT_EQ(std::isnan(to_float(value)), is_nan) << bits;
    EXPECT_EQ(to_bfloat16(to_float(value)).bits, is_nan ? kBfloat16Nan : bits) << bits;
  }
}

/// The nearer of the two neighbours, found by comparing distances in double, where they are exact.
std::uint32_t nearest(std::uint32_t below, float value) {
  const auto at = [](std::uint32_t bits) { return static_cast<double>(float_of(bits << 16U)); };
  const double down = static_cast<double>(value) - at(below);
  const double up = at(below + 1) - static_cast<double>(value);
  if (down != up) return down < up ? below : below + 1;
  return (below & 1U) == 0 ? below : below + 1;
}

TEST(Bfloat16, RoundsToTheNearestAndTiesToEven) {
  // Below the largest finite value, whose upper neighbour is infinite and has no distance.
  for (std::uint32_t upper = 0; upper < 0x7F7F; ++upper) {
    for (const std::uint32_t lower : {0U, 1U, 0x7FFFU, 0x8000U, 0x8001U, 0xFFFFU}) {
      const std::uint32_t bits = (upper << 16U) | lower;
      const std::uint32_t expected = nearest(upper, float_of(bits));
      EXPECT_EQ(to_bfloat16(float_of(bits)).bits, expected) << bits;
      EXPECT_EQ(to_bfloat16(float_of(bits | 0x80000000U)).bits, expected | 0x8000U) << bits;
    }
  }
}

TEST(Bfloat16, RoundsTiesOfKnownValues) {
  EXPECT_EQ(to_bfloat16(1.0F + 0x1p-8F).bits, to_bfloat16(1.0F).bits);
  EXPECT_EQ(to_float(to_bfloat16(1.0F + 0x1p-7F + 0x1p-8F)), 1.0F + 0x1p-6F);
  EXPECT_EQ(to_float(to_bfloat16(-1.0F - 0x1p-8F - 0x1p-20F)), -1.0F - 0x1p-7F);
}

TEST(Bfloat16, OverflowsToInfinity) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  EXPECT_EQ(to_bfloat16(kInfinity).bits, 0x7F80);
  EXPECT_EQ(to_bfloat16(-kInfinity).bits, 0xFF80);
  EXPECT_EQ(to_bfloat16(std::numeric_limits<float>::max()).bits, 0x7F80);
  EXPECT_EQ(to_bfloat16(float_of(0x7F7F7FFF)).bits, 0x7F7F);  // the last below the tie
  EXPECT_EQ(to_bfloat16(float_of(0x7F7F8000)).bits, 0x7F80);  // the tie goes to the even infinity
}

TEST(Bfloat16, MakesEveryNanTheSame) {
  for (const std::uint32_t bits : {0x7F800001U, 0x7FC00000U, 0x7FFFFFFFU, 0xFF800001U, 0xFFC12345U, 0xFFFFFFFFU}) {
    EXPECT_EQ(to_bfloat16(float_of(bits)).bits, kBfloat16Nan) << bits;
  }
  EXPECT_EQ(to_bfloat16(float_of(kFloat32Nan)).bits, kBfloat16Nan);
}

TEST(Bfloat16, KeepsSubnormalsAndSignedZero) {
  EXPECT_EQ(to_bfloat16(0.0F).bits, 0x0000);
  EXPECT_EQ(to_bfloat16(-0.0F).bits, 0x8000);
  EXPECT_EQ(to_bfloat16(float_of(0x00010000)).bits, 0x0001);
  EXPECT_EQ(to_bfloat16(float_of(0x00008000)).bits, 0x0000);  // tie with zero
  EXPECT_EQ(to_bfloat16(float_of(0x00008001)).bits, 0x0001);
  EXPECT_EQ(to_bfloat16(float_of(0x80000001)).bits, 0x8000);
  EXPECT_EQ(to_bfloat16(float_of(0x007FFFFF)).bits, 0x0080);  // up into the normal numbers
}

}  // namespace
}  // namespace crossdock
