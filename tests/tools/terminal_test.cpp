#include "crossdock/terminal.hpp"

#include <algorithm>
#include <sstream>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "crossdock/heat_map.hpp"

namespace crossdock::tool {
namespace {

using testing::HasSubstr;
using testing::Not;

/// Columns of text without escape sequences: UTF-8 continuation bytes do not count.
int columns(const std::string& line) {
  return static_cast<int>(std::count_if(line.begin(), line.end(), [](char c) { return (c & 0xC0) != 0x80; }));
}

std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  std::istringstream stream(text);
  for (std::string line; std::getline(stream, line);) lines.push_back(line);
  return lines;
}

TEST(Terminal, FormatsNumbersWithThreeDigits) {
  EXPECT_EQ(format_duration(0), "0.00 us");
  EXPECT_EQ(format_duration(12.34), "12.3 us");
  EXPECT_EQ(format_duration(999.4), "999 us");
  EXPECT_EQ(format_duration(61800), "61.8 ms");
  EXPECT_EQ(format_duration(2.5e6), "2.50 s");
  EXPECT_EQ(format_bytes(812), "812 B");
  EXPECT_EQ(format_bytes(2'489'000'000), "2.49 GB");
}

TEST(Terminal, ShadesGrow) {
  EXPECT_EQ(shade(0), " ");
  EXPECT_EQ(shade(0.001), "░");
  EXPECT_EQ(shade(1), "█");
}

TEST(Terminal, HasNoEscapesWithoutColour) {
  const Terminal plain(false, 100);
  EXPECT_EQ(plain.bold("x") + plain.heat(0.5, "y"), "xy");
  const Terminal coloured(true, 100);
  EXPECT_THAT(coloured.heat(0.5, "y"), HasSubstr("\033["));
}

class HeatMapWidth : public testing::TestWithParam<int> {};

TEST_P(HeatMapWidth, FitsAndHasOneLinePerRank) {
  const int ranks = GetParam();
  std::vector<std::int64_t> rows(static_cast<std::size_t>(ranks * ranks));
  for (std::size_t i = 0; i < rows.size(); ++i) rows[i] = static_cast<std::int64_t>(i % 300);
  const auto lines = lines_of(heat_map(rows, ranks, {false, 100}));
  EXPECT_GE(lines.size(), static_cast<std::size_t>(ranks) + 1);
  for (const auto& line : lines) {
    EXPECT_LE(columns(line), 100) << line;
    EXPECT_EQ(columns(line), columns(lines[0])) << line;
  }
}

INSTANTIATE_TEST_SUITE_P(Ranks, HeatMapWidth, testing::Values(1, 2, 3, 8, 13, 14, 40, 41, 42, 64));

TEST(HeatMap, ShowsNumbersAndSums) {
  const std::vector<std::int64_t> rows{10, 0, 5, 7};
  const auto text = heat_map(rows, 2, {false, 80});
  EXPECT_THAT(text, HasSubstr("10█"));
  EXPECT_THAT(text, HasSubstr("0 "));
  EXPECT_THAT(text, HasSubstr("22"));
  EXPECT_THAT(text, Not(HasSubstr("\033")));
}

TEST(LoadHistogram, TheBusiestReachesTheTopAndTheIdleShowNothing) {
  const std::vector<std::int64_t> load{0, 600, 1, 300};
  const auto lines = lines_of(load_histogram(load, 2, {false, 80}));
  ASSERT_EQ(lines.size(), 7U);
  EXPECT_EQ(lines[0], "    600  █    ");
  EXPECT_EQ(lines[5], "      0  █ ▁█ ");
  EXPECT_EQ(lines[6], "rank    0  1  ");
  for (const int ranks : {1, 3, 8, 24, 25, 64}) {
    const std::vector<std::int64_t> many(64, 5);
    for (const auto& line : lines_of(load_histogram(many, ranks, {false, 100}))) EXPECT_LE(columns(line), 100);
  }
}

}  // namespace
}  // namespace crossdock::tool
