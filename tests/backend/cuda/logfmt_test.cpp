// LogFMT-10 of the kernels against the codec, bit for bit: its arithmetic on this processor and, where there is one, on
// the device; its layout.
#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "backend/cuda/device/logfmt_layout.hpp"
#include "backend/cuda/device_probe.hpp"
#include "backend/cuda/logfmt_probe.hpp"
#include "codec/logfmt.hpp"
#include "support/draw.hpp"

namespace crossdock::testing {
namespace {

constexpr std::size_t kPack = 16;
constexpr std::uint16_t kSign = 0x8000;

/// Every magnitude of a group with these extremes, signs in turn.
void add_cases(std::uint16_t amax, std::uint16_t amin, std::vector<LogFmtCase>& cases) {
  for (unsigned begin = amin; begin <= amax; begin += kPack) {
    LogFmtCase& next = cases.emplace_back(LogFmtCase{.amax = amax, .amin = amin, .elements = {}});
    for (unsigned i = 0; i < kPack; ++i) {
      const unsigned magnitude = std::min<unsigned>(begin + i, amax);
      next.elements[i] = static_cast<std::uint16_t>(magnitude | ((magnitude / 3 % 2 != 0) ? kSign : 0U));
    }
  }
}

/// Ranges at the borders of what is cast, and random ones.
std::vector<LogFmtCase> all_cases() {
  constexpr std::uint16_t kLeastAmax = 0x1080;
  constexpr std::uint16_t kMostAmax = 0x3F7F;
  std::vector<LogFmtCase> cases;
  for (const std::uint16_t amax : {kLeastAmax, std::uint16_t{0x1081}, std::uint16_t{0x3F00}, kMostAmax}) {
    for (const int amin : {0, 1, 0x7F, 0x80, 0x100, amax - 0x1000, amax - 0x81, amax - 2, amax - 1}) {
      add_cases(amax, static_cast<std::uint16_t>(amin), cases);
    }
  }
  add_cases(0x3F80, 0x3F00, cases);  // not cast, as the next two
  add_cases(0x107F, 0x1000, cases);
  add_cases(0x3F00, 0x3F00, cases);
  Draw draw(5);
  constexpr int kRanges = 3000;
  for (int i = 0; i < kRanges; ++i) {
    const std::int64_t amax = draw.between(kLeastAmax, kMostAmax);
    const std::int64_t width = draw.chance(50) ? 0x1000 : 0x100;
    add_cases(static_cast<std::uint16_t>(amax), static_cast<std::uint16_t>(amax - draw.between(1, width)), cases);
  }
  return cases;
}

std::uint32_t code_of(const LogFmtResult& result, std::size_t e) {
  return (result.low[e / 4] >> (8 * (e % 4)) & 0xFFU) | (result.high >> (7 - e / 2 + 16 * (e % 2)) & 1U) << 8U;
}
bool is_negative(const LogFmtResult& result, std::size_t e) {
  return (result.high >> (15 - e / 2 + 16 * (e % 2)) & 1U) != 0;
}

void expect_as_the_codec(const std::vector<LogFmtCase>& cases, const std::vector<LogFmtResult>& results) {
  ASSERT_EQ(results.size(), cases.size());
  for (std::size_t i = 0; i < cases.size(); ++i) {
    const LogFmtCase& input = cases[i];
    const codec::LogFmtExtremes extremes{.amax = input.amax, .amin = input.amin};
    ASSERT_EQ(results[i].castable != 0, codec::logfmt_castable(extremes)) << input.amax << " " << input.amin;
    if (results[i].castable == 0) continue;
    const codec::LogFmtScale scale(extremes);
    for (std::size_t e = 0; e < kPack; ++e) {
      const std::uint16_t element = input.elements[e];
      const std::uint32_t code = scale.encode({element});
      const auto bits = std::bit_cast<std::uint32_t>(scale.decode(code)) | (element & kSign ? 0x80000000U : 0U);
      const auto decoded = std::bit_cast<std::uint32_t>(scale.decode(element & 0x1FFU));
      ASSERT_TRUE(code_of(results[i], e) == code && is_negative(results[i], e) == ((element & kSign) != 0) &&
                  results[i].values[e] == bits && results[i].decoded[e] == decoded)
          << "amax " << input.amax << ", amin " << input.amin << ", element " << element << ": code "
          << code_of(results[i], e) << ", not " << code << "; value " << results[i].values[e] << ", not " << bits
          << "; code " << (element & 0x1FFU) << " is " << results[i].decoded[e] << ", not " << decoded;
    }
  }
}

TEST(CudaLogFmt, IsTheCodecOnThisProcessor) {
  const std::vector<LogFmtCase> cases = all_cases();
  expect_as_the_codec(cases, logfmt_on_host(cases));
}

TEST(CudaLogFmt, IsTheCodecOnTheDevice) {
  if (const std::string reason = why_no_cuda_device(); !reason.empty()) GTEST_SKIP() << reason;
  const std::vector<LogFmtCase> cases = all_cases();
  expect_as_the_codec(cases, logfmt_on_device(cases));
}

/// Marks [begin, begin + size), which must be free and aligned.
void take(std::vector<bool>& bytes, std::int64_t begin, std::int64_t size) {
  ASSERT_EQ(begin % size, 0);
  ASSERT_LE(static_cast<std::size_t>(begin + size), bytes.size());
  for (std::int64_t i = begin; i < begin + size; ++i) {
    ASSERT_FALSE(bytes[static_cast<std::size_t>(i)]) << "byte " << i;
    bytes[static_cast<std::size_t>(i)] = true;
  }
}

TEST(CudaLogFmt, EveryPartOfARowHasAPlaceOfItsOwn) {
  for (const std::int64_t hidden : {1, 15, 16, 17, 128, 130, 511, 512, 513, 1000, 1024, 1536, 2048, 2055, 7168}) {
    SCOPED_TRACE("hidden " + std::to_string(hidden));
    const cuda::device::LogFmtLayout layout(hidden);
    std::vector<bool> raw(static_cast<std::size_t>(layout.row_bytes()));
    for (int group = 0; std::int64_t{group} * 128 < hidden; ++group)
      take(raw, cuda::device::LogFmtLayout::range(group), 8);
    std::vector<bool> cast = raw;
    std::int64_t lanes = 0;
    for (int unit = 0; unit < layout.num_units(); ++unit) {
      for (int lane = 0; lane < layout.unit_lanes(unit); ++lane, ++lanes) {
        take(raw, layout.first_part(unit, lane), 16);
        take(cast, layout.first_part(unit, lane), 16);
        take(raw, layout.raw_part(unit, lane), 16);
        take(cast, layout.cast_part(unit, lane), 4);
      }
    }
    EXPECT_EQ(lanes, (hidden + 15) / 16);
    EXPECT_EQ(layout.has_pairs(), codec::logfmt_chunk_elements(hidden) == 1024);
  }
}

TEST(CudaLogFmt, UnitsAreCastWhereTheCodecCastsChunks) {
  const std::vector<codec::LogFmtExtremes> castable{{.amax = 0x3F00, .amin = 0x3E00}};
  for (int elements = 1; elements <= 512; ++elements) {
    EXPECT_EQ(cuda::device::LogFmtLayout::is_worth_it(elements), codec::logfmt_is_cast(elements, castable)) << elements;
  }
}

}  // namespace
}  // namespace crossdock::testing
