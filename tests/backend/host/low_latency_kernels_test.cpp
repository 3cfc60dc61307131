// The loops of low-latency mode against plain ones, for every instruction set of this machine.
#include "backend/host/low_latency_kernels.hpp"

#include <gtest/gtest.h>
#include <hwy/targets.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>
#include <vector>

#include "support/draw.hpp"

namespace crossdock::host {
namespace {

using testing::Draw;

std::vector<std::int64_t> all_targets() {
  std::vector<std::int64_t> result;
  for (std::int64_t left = hwy::SupportedTargets(); left != 0; left &= left - 1) result.push_back(left & -left);
  return result;
}

class LowLatencyKernelsTest : public ::testing::TestWithParam<std::int64_t> {
 protected:
  void SetUp() override { hwy::SetSupportedTargetsForTest(GetParam()); }
  void TearDown() override { hwy::SetSupportedTargetsForTest(0); }
};

void check_quantized(const std::vector<Bfloat16>& row, codec::ScaleRounding rounding) {
  const auto groups = static_cast<std::size_t>(codec::num_groups(static_cast<std::int64_t>(row.size())));
  std::vector<std::uint8_t> values(row.size()), expected_values(row.size());
  std::vector<float> scales(groups), expected_scales(groups);
  quantize_row(row.data(), row.size(), rounding, values.data(), scales.data());
  codec::quantize_row(row, rounding, expected_values, expected_scales);
  ASSERT_EQ(values, expected_values) << "hidden " << row.size();
  ASSERT_EQ(std::memcmp(scales.data(), expected_scales.data(), groups * sizeof(float)), 0) << "hidden " << row.size();
}

TEST_P(LowLatencyKernelsTest, QuantizesEveryBfloat16AsTheCodecDoes) {
  std::vector<Bfloat16> all(65'536);
  for (std::size_t i = 0; i < all.size(); ++i) all[i].bits = static_cast<std::uint16_t>(i);
  for (const auto rounding : {codec::ScaleRounding::kNone, codec::ScaleRounding::kPowerOfTwo}) {
    check_quantized(all, rounding);  // neighbours are of like size
    Draw draw(7);
    std::vector<Bfloat16> shuffled = all;
    for (std::size_t i = shuffled.size() - 1; i > 0; --i) {
      std::swap(shuffled[i], shuffled[static_cast<std::size_t>(draw.between(0, static_cast<std::int64_t>(i)))]);
    }
    check_quantized(shuffled, rounding);
  }
}

TEST_P(LowLatencyKernelsTest, QuantizesRowsOfEveryLength) {
  Draw draw(11);
  for (std::size_t hidden = 1; hidden <= 300; ++hidden) {
    std::vector<Bfloat16> row(hidden);
    for (auto& value : row) value = to_bfloat16(static_cast<float>(draw.between(-5000, 5000)) / 128.0F);
    check_quantized(row, codec::ScaleRounding::kNone);
    check_quantized(row, codec::ScaleRounding::kPowerOfTwo);
  }
}

TEST_P(LowLatencyKernelsTest, SumsAsFusedMultiplyAddsInOrder) {
  Draw draw(13);
  for (std::size_t hidden = 1; hidden <= 260; hidden += 7) {
    for (std::size_t count = 0; count <= 9; ++count) {
      std::vector<std::vector<Bfloat16>> rows(count, std::vector<Bfloat16>(hidden));
      std::vector<WeightedRow> addends;
      for (auto& row : rows) {
        for (auto& value : row) value.bits = static_cast<std::uint16_t>(draw.bits());
        addends.push_back(
            {reinterpret_cast<const std::byte*>(row.data()), static_cast<float>(draw.between(-99, 99)) / 31.0F});
      }
      std::vector<Bfloat16> out(hidden);
      sum_weighted_rows(addends, hidden, reinterpret_cast<std::byte*>(out.data()));
      for (std::size_t h = 0; h < hidden; ++h) {
        float sum = 0.0F;
        for (std::size_t i = 0; i < count; ++i) sum = std::fma(to_float(rows[i][h]), addends[i].weight, sum);
        ASSERT_EQ(out[h], to_bfloat16(sum)) << "hidden " << hidden << ", element " << h << " of " << count << " rows";
      }
    }
  }
}

TEST_P(LowLatencyKernelsTest, CopiesARowToAllItsDestinations) {
  Draw draw(17);
  for (std::size_t bytes = 1; bytes <= 400; bytes += 3) {
    for (const Stores stores : {Stores::kCached, Stores::kStreaming}) {
      const std::vector<std::byte> row = draw.bytes(bytes);
      std::vector<std::vector<std::byte>> places(11, std::vector<std::byte>(bytes + 1));
      std::vector<std::byte*> destinations;
      for (auto& place : places) destinations.push_back(place.data());
      multicast_row(row.data(), bytes, destinations, stores);
      flush_streaming_stores();
      for (const auto& place : places) {
        ASSERT_TRUE(std::equal(row.begin(), row.end(), place.begin())) << bytes << " bytes";
        ASSERT_EQ(place.back(), std::byte{0}) << "a store beyond " << bytes << " bytes";
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Targets, LowLatencyKernelsTest, ::testing::ValuesIn(all_targets()),
                         [](const auto& param) { return std::string(hwy::TargetName(param.param)); });

}  // namespace
}  // namespace crossdock::host
