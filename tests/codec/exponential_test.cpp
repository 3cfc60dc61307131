#include "codec/exponential.hpp"

#include <gtest/gtest.h>

#include "base/bfloat16.hpp"

namespace crossdock::codec {
namespace {

float value_of(int bits) { return to_float({static_cast<std::uint16_t>(bits)}); }

constexpr int kFirstNormal = 0x0080;
constexpr int kInfinity = 0x7F80;

TEST(Log2, OfEveryBfloat16IsWithinItsBound) {
  for (int bits = kFirstNormal; bits < kInfinity; ++bits) {
    const double exact = std::log2(static_cast<double>(value_of(bits)));
    // The polynomial, and half a unit in the last place of the sum.
    EXPECT_NEAR(log2_of(value_of(bits)), exact, 1.2e-6 + 6e-8 * std::abs(exact)) << bits;
  }
}

TEST(Log2, GrowsWithItsArgument) {
  for (int bits = kFirstNormal; bits + 1 < kInfinity; ++bits) {
    EXPECT_LT(log2_of(value_of(bits)) + 0.005F, log2_of(value_of(bits + 1))) << bits;
  }
}

TEST(Log2, OfPowersOfTwoIsExact) {
  for (int n = -126; n <= 127; ++n) EXPECT_EQ(log2_of(std::ldexp(1.0F, n)), static_cast<float>(n));
}

TEST(Log2, OfZeroAndSubnormalValuesIsBelowThatOfNormalOnes) {
  for (int bits = 0; bits < kFirstNormal; ++bits) {
    EXPECT_GE(log2_of(value_of(bits)), -127.0F) << bits;
    EXPECT_LT(log2_of(value_of(bits)), -126.0F) << bits;
  }
}

TEST(Exp2, IsWithinItsBound) {
  constexpr int kStepsPerOctave = 4093;  // a prime, so that no pattern of fractions repeats
  for (int i = -126 * kStepsPerOctave; i <= 126 * kStepsPerOctave; ++i) {
    const float x = static_cast<float>(i) / kStepsPerOctave;
    const double exact = std::exp2(static_cast<double>(x));
    ASSERT_NEAR(exp2_of(x) / exact, 1.0, 3e-7) << x;
  }
}

TEST(Exp2, OfIntegersIsExact) {
  for (int n = -126; n < 127; ++n) EXPECT_EQ(exp2_of(static_cast<float>(n)), std::ldexp(1.0F, n));
}

// Pins the order of operations. The bits were computed in exact rational arithmetic, rounded after each operation.
TEST(Exponential, HasTheseBits) {
  const auto bits = [](float value) { return std::bit_cast<std::uint32_t>(value); };
  EXPECT_EQ(bits(log2_of(0.75F)), 0xBED47FCCU);
  EXPECT_EQ(bits(log2_of(0x1.FEp-20F)), 0xC1980B90U);
  EXPECT_EQ(bits(log2_of(1.4140625F)), 0x3EFFEBE1U);
  EXPECT_EQ(bits(log2_of(0x1.04p-90F)), 0xC2B3F48CU);
  EXPECT_EQ(bits(exp2_of(-0.4150375F)), 0x3F400002U);
  EXPECT_EQ(bits(exp2_of(-17.3F)), 0x36CFEFCDU);
  EXPECT_EQ(bits(exp2_of(-0.5F)), 0x3F3504F1U);
  EXPECT_EQ(bits(exp2_of(-125.9F)), 0x00892FD6U);
}

}  // namespace
}  // namespace crossdock::codec
