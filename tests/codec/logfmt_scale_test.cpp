#include "codec/logfmt_scale.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <set>
#include <vector>

#include "support/draw.hpp"

namespace crossdock::codec {
namespace {

using crossdock::testing::Draw;

constexpr int kLeastAmax = 0x1080;  // 2^-94
constexpr int kOne = 0x3F80;
constexpr int kMaxCode = LogFmtScale::kMaxCode;

Bfloat16 bfloat16(int bits) { return {static_cast<std::uint16_t>(bits)}; }

LogFmtExtremes extremes(int amax, int amin) {
  return {.amax = static_cast<std::uint16_t>(amax), .amin = static_cast<std::uint16_t>(amin)};
}

/// The values of the codes as DeepEP describes them, in double precision.
struct ExactScale {
  double log_max;
  double log_min;
  double step;

  explicit ExactScale(LogFmtExtremes group)
      : log_max(std::log2(to_float({group.amax}))),
        log_min(std::max(std::log2(static_cast<double>(to_float({group.amin}))), log_max - 32)),
        step((log_max - log_min) / 510) {}

  [[nodiscard]] double value_of(int code) const { return code == 0 ? 0.0 : std::exp2((code - 1) * step + log_min); }
  /// The lower value plus half of the distance to the upper one is where codes change.
  [[nodiscard]] double relative_error() const { return (std::exp2(step) - 1) / 2; }
};

/// Of float32 arithmetic with logarithms of up to 126, on top of what ten bits cost.
constexpr double kArithmeticError = 1.5e-5;

TEST(LogFmtExtremes, CompareMagnitudes) {
  const std::vector<Bfloat16> group = {bfloat16(0xBF00), bfloat16(0x3E80), bfloat16(0x8001), bfloat16(0x3F00)};
  EXPECT_EQ(logfmt_extremes(group).amax, 0x3F00);
  EXPECT_EQ(logfmt_extremes(group).amin, 0x0001);
  const std::vector<Bfloat16> nan = {bfloat16(0xFFC0), bfloat16(0x7F80)};
  EXPECT_EQ(logfmt_extremes(nan).amax, 0x7FC0);
  EXPECT_EQ(logfmt_extremes(nan).amin, 0x7F80);
}

TEST(LogFmtCastable, WantsARangeBelowOne) {
  EXPECT_TRUE(logfmt_castable(extremes(kOne - 1, kOne - 2)));
  EXPECT_TRUE(logfmt_castable(extremes(kOne - 1, 0)));
  EXPECT_TRUE(logfmt_castable(extremes(kLeastAmax, 0)));
  EXPECT_FALSE(logfmt_castable(extremes(kLeastAmax - 1, 0)));
  EXPECT_FALSE(logfmt_castable(extremes(kOne, 0)));
  EXPECT_FALSE(logfmt_castable(extremes(0x3000, 0x3000)));
  EXPECT_FALSE(logfmt_castable(extremes(0, 0)));
  EXPECT_FALSE(logfmt_castable(extremes(0x7F80, 0)));
  EXPECT_FALSE(logfmt_castable(extremes(0x7FC0, 0x3000)));
}

/// Zero, the least and greatest possible amin, those at both sides of the 32 octaves, and random ones.
std::set<int> amins_for(int amax, Draw& draw) {
  std::set<int> result = {0, 1, 0x7F, 0x80, amax - 1, amax - 2, amax - 128, amax - 4096, amax - 4095, amax - 4097};
  for (int i = 0; i < 4; ++i) result.insert(static_cast<int>(draw.between(1, amax - 1)));
  std::erase_if(result, [&](int amin) { return amin < 0 || amin >= amax; });
  return result;
}

void expect_faithful(LogFmtExtremes group, int bits) {
  const LogFmtScale scale(group);
  const ExactScale exact(group);
  const double x = to_float(bfloat16(bits));
  const std::uint32_t code = scale.encode(bfloat16(bits));
  ASSERT_LE(code, static_cast<std::uint32_t>(kMaxCode));
  ASSERT_EQ(scale.encode(bfloat16(bits | 0x8000)), code);
  const double decoded = scale.decode(code);
  // Below code 1 there are only magnitudes more than 32 octaves below amax: they become zero or code 1.
  const double least = exact.value_of(1);
  const double bound = x < least ? least : x * (exact.relative_error() + kArithmeticError);
  ASSERT_NEAR(decoded, x, bound) << "amax " << group.amax << " amin " << group.amin << " element " << bits;
}

TEST(LogFmtScale, IsFaithfulForEveryAmax) {
  Draw draw(20251);
  for (int amax = kLeastAmax; amax < kOne; ++amax) {
    for (const int amin : amins_for(amax, draw)) {
      const LogFmtExtremes group = extremes(amax, amin);
      for (int i = 0; i < 8; ++i) expect_faithful(group, static_cast<int>(draw.between(amin, amax)));
      expect_faithful(group, amin);
      expect_faithful(group, amax);
    }
  }
}

TEST(LogFmtScale, IsFaithfulForEveryElementOfAGroup) {
  for (const auto& [amax, amin] : std::vector<std::pair<int, int>>{
           {kOne - 1, 0}, {kOne - 1, 0x3B00}, {0x3C12, 0x3B00}, {kLeastAmax, 0}, {0x2000, 0x1F00}}) {
    for (int bits = amin; bits <= amax; ++bits) expect_faithful(extremes(amax, amin), bits);
  }
}

TEST(LogFmtScale, KeepsTheExtremesAndZero) {
  Draw draw(20252);
  for (int amax = kLeastAmax; amax < kOne; ++amax) {
    for (const int amin : amins_for(amax, draw)) {
      const LogFmtScale scale(extremes(amax, amin));
      ASSERT_EQ(scale.encode(bfloat16(amax)), static_cast<std::uint32_t>(kMaxCode));
      ASSERT_EQ(to_bfloat16(scale.decode(kMaxCode)).bits, amax);
      ASSERT_EQ(scale.encode(bfloat16(0)), 0U);
      // Within the 32 octaves, to which amin counts only if it is normal.
      if (amin < 0x80 || amin <= amax - 4096) continue;
      ASSERT_EQ(scale.encode(bfloat16(amin)), 1U) << amax << " " << amin;
      ASSERT_EQ(to_bfloat16(scale.decode(1)).bits, amin);
    }
  }
}

// Where the range of codes ends at 2^-126; log2 of 0x7F comes out as -126.006 and of 0x7B as -126.03.
TEST(LogFmtScale, OfSubnormalElements) {
  const LogFmtScale scale(extremes(kLeastAmax, 0));
  EXPECT_EQ(scale.encode(bfloat16(0x80)), 1U);
  EXPECT_EQ(scale.encode(bfloat16(0x7F)), 1U);
  EXPECT_EQ(scale.encode(bfloat16(0x7B)), 1U);
  EXPECT_EQ(scale.encode(bfloat16(0x70)), 0U);
  EXPECT_EQ(scale.encode(bfloat16(0x01)), 0U);
  EXPECT_EQ(scale.encode(bfloat16(0x00)), 0U);
}

TEST(LogFmtScale, DecodesEveryCodeAsDescribed) {
  for (const auto& [amax, amin] : std::vector<std::pair<int, int>>{{kOne - 1, 0},
                                                                   {kOne - 1, kOne - 2},
                                                                   {0x3C12, 0x3B00},
                                                                   {kLeastAmax, 0},
                                                                   {kLeastAmax, 0x0080},
                                                                   {0x3F00, 0x2F00}}) {
    const LogFmtScale scale(extremes(amax, amin));
    const ExactScale exact(extremes(amax, amin));
    EXPECT_EQ(std::bit_cast<std::uint32_t>(scale.decode(0)), 0U);
    for (int code = 1; code <= kMaxCode; ++code) {
      const auto decoded = static_cast<double>(scale.decode(static_cast<std::uint32_t>(code)));
      ASSERT_NEAR(decoded / exact.value_of(code), 1.0, kArithmeticError) << code;
      ASSERT_GE(decoded, scale.decode(static_cast<std::uint32_t>(code - 1)));
    }
  }
}

TEST(LogFmtScale, ChangesCodesInTheArithmeticMiddle) {
  const LogFmtScale scale(extremes(kOne - 1, 0));  // steps of 4.4 percent, many bfloat16s in each
  const ExactScale exact(extremes(kOne - 1, 0));
  for (int bits = kOne - 4096 + 128; bits < kOne; ++bits) {
    const double x = to_float(bfloat16(bits));
    int nearest = kMaxCode;
    while (nearest > 1 && std::abs(exact.value_of(nearest - 1) - x) < std::abs(exact.value_of(nearest) - x)) --nearest;
    ASSERT_EQ(scale.encode(bfloat16(bits)), static_cast<std::uint32_t>(nearest)) << bits;
  }
}

// A second pass changes nothing, once what was decoded is rounded to bfloat16. Its code may be the neighbour where the
// steps are as wide as those of bfloat16, about one time in a million.
TEST(LogFmtScale, IsStable) {
  Draw draw(20253);
  for (int i = 0; i < 3'000'000; ++i) {
    const int amax = static_cast<int>(draw.between(kLeastAmax, kOne - 1));
    const int width = draw.one_of({1500, 4096});
    const int amin = draw.chance(20) ? 0 : static_cast<int>(draw.between(std::max(amax - width, 0), amax - 1));
    const LogFmtScale scale(extremes(amax, amin));
    const std::uint32_t code = scale.encode(bfloat16(static_cast<int>(draw.between(amin, amax))));
    const Bfloat16 decoded = to_bfloat16(scale.decode(code));
    const std::uint32_t code_again = scale.encode(decoded);
    ASSERT_EQ(to_bfloat16(scale.decode(code_again)), decoded) << amax << " " << amin << " " << code;
    ASSERT_LE(std::max(code, code_again) - std::min(code, code_again), 1U) << amax << " " << amin << " " << code;
  }
}

}  // namespace
}  // namespace crossdock::codec
