// The loops of LogFMT-10 against the codec, bit for bit, for every instruction set of this machine.
#include "backend/host/logfmt_kernels.hpp"

#include <gtest/gtest.h>
#include <hwy/targets.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <vector>

#include "codec/logfmt.hpp"
#include "support/draw.hpp"

namespace crossdock::host {
namespace {

using testing::Draw;

using Row = std::vector<Bfloat16>;
using Wire = std::vector<std::byte>;

constexpr std::size_t kHiddenSizes[] = {1,   2,   10,  11,  15,  16,  17,  20,  21,   31,   127,  128,  129,  255,
                                        256, 257, 300, 511, 512, 513, 640, 700, 1023, 1024, 1025, 1536, 2048, 2880};

std::vector<std::int64_t> all_targets() {
  std::vector<std::int64_t> result;
  for (std::int64_t left = hwy::SupportedTargets(); left != 0; left &= left - 1) result.push_back(left & -left);
  return result;
}

/// Elements whose exponents spread over `octaves` below `top`; some of them zero.
Row row_below(Draw& draw, std::size_t hidden, float top, double octaves) {
  Row row;
  for (std::size_t i = 0; i < hidden; ++i) {
    const double magnitude = draw.chance(2) ? 0 : top * std::exp2(-octaves * draw.fraction());
    row.push_back(to_bfloat16(static_cast<float>(draw.chance(50) ? magnitude : -magnitude)));
  }
  return row;
}

/// Chunks of all kinds, most of them cast.
Row mixed_row(Draw& draw, std::size_t hidden) {
  Row row =
      row_below(draw, hidden, draw.one_of({0.999F, 0.5F, 0x1p-40F, 0x1p-93F}), draw.one_of({0.01, 3.0, 12.0, 60.0}));
  for (std::size_t begin = 0; begin < hidden; begin += 512) {
    if (!draw.chance(30)) continue;
    const auto bits = draw.one_of<std::uint64_t>({0x7FC1, 0xFF80, 0x3F80, 0x7F80, draw.bits()});
    const auto at = begin + static_cast<std::size_t>(draw.between(0, 511));
    if (at < hidden) row[at].bits = static_cast<std::uint16_t>(bits);
  }
  return row;
}

Wire encode_plainly(const Row& row) {
  Wire wire(static_cast<std::size_t>(codec::logfmt_wire_bytes(row)));
  codec::encode_logfmt(row, wire);
  return wire;
}

void check_encoded(const Row& row) {
  const Wire expected = encode_plainly(row);
  constexpr std::size_t kBeyond = 64;
  Wire wire(expected.size() + kBeyond, std::byte{0xA5});
  ASSERT_EQ(encode_logfmt_row(row.data(), row.size(), wire.data()), expected.size()) << "hidden " << row.size();
  const auto difference = std::mismatch(expected.begin(), expected.end(), wire.begin());
  ASSERT_EQ(difference.first, expected.end())
      << "hidden " << row.size() << ", byte " << difference.first - expected.begin() << " of " << expected.size();
  for (std::size_t i = expected.size(); i < wire.size(); ++i) ASSERT_EQ(wire[i], std::byte{0xA5}) << "written beyond";
}

/// A group's bits, sorted, every NaN alike.
std::vector<std::uint32_t> sorted_bits(const float* group, std::size_t count) {
  std::vector<std::uint32_t> result;
  for (std::size_t i = 0; i < count; ++i) result.push_back(std::bit_cast<std::uint32_t>(with_canonical_nan(group[i])));
  std::sort(result.begin(), result.end());
  return result;
}

/// The float32 sums are compared as a set for each group, their rounded values in order.
void check_sum(const std::vector<Wire>& wires, const std::vector<float>& weights, std::size_t hidden) {
  std::vector<WeightedRow> rows;
  std::vector<float> expected(logfmt_sum_elements(hidden));
  std::vector<float> decoded(hidden);
  for (std::size_t r = 0; r < wires.size(); ++r) {
    rows.push_back({wires[r].data(), weights[r]});
    codec::decode_logfmt(wires[r], decoded);
    for (std::size_t i = 0; i < hidden; ++i) expected[i] = std::fma(decoded[i], weights[r], expected[i]);
  }
  std::vector<float> sums(logfmt_sum_elements(hidden), 9.0F);
  Row out(hidden + 1);
  sum_weighted_logfmt_rows(rows, hidden, sums, reinterpret_cast<std::byte*>(out.data()));
  for (std::size_t i = 0; i < hidden; ++i) {
    ASSERT_EQ(out[i], to_bfloat16(expected[i])) << "hidden " << hidden << ", element " << i;
  }
  ASSERT_EQ(out[hidden].bits, 0) << "written beyond " << hidden;
  for (std::size_t begin = 0; begin + 128 <= hidden; begin += 128) {
    ASSERT_EQ(sorted_bits(&sums[begin], 128), sorted_bits(&expected[begin], 128)) << "hidden " << hidden;
  }
}

void check_both(const Row& row) {
  check_encoded(row);
  check_sum({encode_plainly(row)}, {1.0F}, row.size());
}

class LogFmtKernelsTest : public ::testing::TestWithParam<std::int64_t> {
 protected:
  void SetUp() override { hwy::SetSupportedTargetsForTest(GetParam()); }
  void TearDown() override { hwy::SetSupportedTargetsForTest(0); }
};

/// Every bfloat16 from amin to amax, of both signs, in groups that all have these extremes.
Row row_between(std::uint16_t amin, std::uint16_t amax) {
  Row row;
  const auto put = [&row](unsigned bits) { row.push_back({static_cast<std::uint16_t>(bits)}); };
  for (unsigned magnitude = amin; magnitude <= amax; ++magnitude) {
    for (const unsigned sign : {0U, 0x8000U}) {
      if (row.size() % 128 == 0) put(amax);
      if (row.size() % 128 == 1) put(amin | 0x8000U);
      put(magnitude | sign);
    }
  }
  while (row.size() % 1024 != 0) put(row.size() % 128 == 0 ? amax : amin);
  return row;
}

TEST_P(LogFmtKernelsTest, EveryMagnitudeOfManyRanges) {
  for (const int amax : {0x3F7F, 0x3F00, 0x3E81, 0x2FAB, 0x1080}) {
    for (const int amin : {0x0000, 0x0001, 0x007F, 0x0080, 0x1000, amax - 0x1000, amax - 300, amax - 1}) {
      if (amin < 0 || amin >= amax) continue;
      const Row row = row_between(static_cast<std::uint16_t>(amin), static_cast<std::uint16_t>(amax));
      ASSERT_EQ(static_cast<std::size_t>(codec::logfmt_wire_bytes(row)), row.size() / 32 + row.size() / 16 * 20);
      check_both(row);
    }
  }
}

TEST_P(LogFmtKernelsTest, EveryBfloat16) {
  Row all(65'536);
  for (std::size_t i = 0; i < all.size(); ++i) all[i].bits = static_cast<std::uint16_t>(i);
  check_both(all);  // neighbours are of like size
  Draw draw(7);
  for (std::size_t i = all.size() - 1; i > 0; --i) {
    std::swap(all[i], all[static_cast<std::size_t>(draw.between(0, static_cast<std::int64_t>(i)))]);
  }
  check_both(all);
}

TEST_P(LogFmtKernelsTest, RowsOfManyLengthsAndKinds) {
  Draw draw(11);
  for (const std::size_t hidden : kHiddenSizes) {
    for (int i = 0; i < 12; ++i) check_both(mixed_row(draw, hidden));
    Row any(hidden);
    for (Bfloat16& element : any) element.bits = static_cast<std::uint16_t>(draw.bits());
    check_both(any);
    check_both(Row(hidden));
  }
}

TEST_P(LogFmtKernelsTest, EveryCodeOfRandomRanges) {
  Draw draw(13);
  constexpr std::size_t kHidden = 7168;
  for (int i = 0; i < 10; ++i) {
    Wire wire = draw.bytes(static_cast<std::size_t>(codec::logfmt_max_bytes(kHidden)));
    for (std::size_t group = 0; group < kHidden / 128; ++group) {
      const auto amax = static_cast<std::uint16_t>(draw.between(0x1080, 0x3F7F));
      const auto amin = static_cast<std::uint16_t>(draw.between(0, amax - 1));
      std::memcpy(&wire[4 * group], &amax, 2);
      std::memcpy(&wire[4 * group + 2], &amin, 2);
    }
    check_sum({wire}, {1.0F}, kHidden);
  }
}

TEST_P(LogFmtKernelsTest, SumsAsFusedMultiplyAddsInOrder) {
  Draw draw(17);
  for (const std::size_t hidden : kHiddenSizes) {
    for (std::size_t count = 0; count <= 9; ++count) {
      std::vector<Wire> wires;
      std::vector<float> weights;
      for (std::size_t r = 0; r < count; ++r) {
        wires.push_back(encode_plainly(mixed_row(draw, hidden)));
        weights.push_back(static_cast<float>(draw.between(-99, 99)) / 31.0F);
      }
      check_sum(wires, weights, hidden);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Targets, LogFmtKernelsTest, ::testing::ValuesIn(all_targets()),
                         [](const auto& param) { return std::string(hwy::TargetName(param.param)); });

}  // namespace
}  // namespace crossdock::host
