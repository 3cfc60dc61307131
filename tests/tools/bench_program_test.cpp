// crossdock bench on small shapes, and what it writes.
#include <filesystem>
#include <fstream>

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "tools/program.hpp"

namespace crossdock::tool {
namespace {

using nlohmann::json;
using testing::HasSubstr;

/// Runs a benchmark and gives its JSON; fails the test if it does not succeed.
json run_bench(const std::string& arguments) {
  const auto path =
      std::filesystem::path(testing::TempDir()) /
      ("crossdock_bench_" + std::string(testing::UnitTest::GetInstance()->current_test_info()->name()) + ".json");
  const auto result = run_program("bench --iterations 3 --warmup 1 " + arguments + " --json " + path.string());
  EXPECT_EQ(result.exit_code, 0) << result.output;
  EXPECT_THAT(result.output, HasSubstr("verified"));
  std::ifstream file(path);
  auto parsed = json::parse(file, nullptr, false);
  std::filesystem::remove(path);
  return parsed.is_discarded() ? json::object() : parsed;
}

void expect_complete(const json& result) {
  ASSERT_EQ(result.at("schema"), 1);
  EXPECT_EQ(result.at("verified"), true);
  for (const char* field : {"cpu", "cores", "memory_bytes", "kernel", "compiler", "simd"}) {
    EXPECT_TRUE(result.at("machine").contains(field)) << field;
  }
  for (const char* name : {"dispatch", "combine"}) {
    const json& phase = result.at("phases").at(name);
    EXPECT_LE(phase.at("min_us").get<double>(), phase.at("p50_us").get<double>());
    EXPECT_LE(phase.at("p50_us").get<double>(), phase.at("p90_us").get<double>());
    EXPECT_LE(phase.at("p90_us").get<double>(), phase.at("p99_us").get<double>());
    EXPECT_GT(phase.at("min_us").get<double>(), 0);
    for (const char* part : {"layout_us", "announce_us", "place_us", "copy_us", "wait_us"}) {
      EXPECT_GE(phase.at("parts").at(part).get<double>(), 0) << part;
    }
    const double rate = phase.at("bytes").get<double>() / phase.at("p50_us").get<double>() / 1e3;
    EXPECT_NEAR(phase.at("gb_per_s").get<double>(), rate, 1e-6 + rate * 1e-6);
  }
}

TEST(BenchProgram, CountsEveryTokenOnceWhenAllGoEverywhere) {
  const auto result = run_bench("--mode normal --ranks 2 --tokens 100 --hidden 256 --topk 4 --experts 4");
  expect_complete(result);
  EXPECT_EQ(result.at("phases").at("dispatch").at("bytes"), 2 * 2 * 100 * 512);
  EXPECT_EQ(result.at("phases").at("combine").at("bytes"), 2 * 2 * 100 * 512);
  EXPECT_EQ(result.at("config").at("launch"), "processes");
  EXPECT_EQ(result.at("config").at("combine_input"), "inplace");
  EXPECT_GE(result.at("memory").at("inputs_bytes"), 2 * 100 * 512);
  EXPECT_GE(result.at("memory").at("received_bytes"), 4 * 100 * 512);
  EXPECT_EQ(result.at("memory").at("outputs_bytes"), 2 * 100 * 512);
  EXPECT_GT(result.at("memory").at("pss_bytes"), 4 * 100 * 512);
}

TEST(BenchProgram, RunsAsThreads) {
  const auto result = run_bench("--threads --ranks 4 --tokens 64 --hidden 64 --topk 2 --experts 16");
  expect_complete(result);
  EXPECT_EQ(result.at("config").at("launch"), "threads");
}

TEST(BenchProgram, MovesFp8RowsWithTheirScales) {
  const auto result = run_bench("--ranks 3 --tokens 40 --hidden 384 --topk 3 --experts 3 --dtype fp8");
  expect_complete(result);
  EXPECT_EQ(result.at("phases").at("dispatch").at("bytes"), 9 * 40 * (384 + 12));
  EXPECT_EQ(result.at("phases").at("combine").at("bytes"), 9 * 40 * 768);
  EXPECT_EQ(result.at("config").at("combine_input"), "arena");
}

TEST(BenchProgram, CombinesFromTheArenaAndFromOutside) {
  for (const std::string source : {"arena", "outside"}) {
    for (const std::string dtype : {"bf16", "fp8"}) {
      const auto result = run_bench(fmt::format(
          "--ranks 3 --tokens 50 --hidden 128 --topk 2 --experts 9 --dtype {} --combine-input {}", dtype, source));
      expect_complete(result);
      EXPECT_EQ(result.at("config").at("combine_input"), source);
    }
  }
}

TEST(BenchProgram, HandlesRanksWithoutTokensOrExperts) {
  expect_complete(run_bench("--ranks 2 --tokens 0 --hidden 64 --topk 1 --experts 2"));
  expect_complete(run_bench("--ranks 5 --tokens 7 --hidden 33 --topk 2 --experts 3"));
  expect_complete(run_bench("--ranks 1 --tokens 7 --hidden 1 --topk 1 --experts 1"));
}

TEST(BenchProgram, TakesItsRoutingFromATrace) {
  const auto result = run_bench("--ranks 4 --tokens 200 --hidden 64 --routing trace_e256_k8.safetensors:1");
  expect_complete(result);
  EXPECT_EQ(result.at("config").at("experts"), 256);
  EXPECT_EQ(result.at("config").at("topk"), 8);
  const auto other = run_bench("--ranks 4 --tokens 200 --hidden 64 --routing trace_e256_k8.safetensors");
  EXPECT_NE(result.at("phases").at("dispatch").at("bytes"), other.at("phases").at("dispatch").at("bytes"));
}

TEST(BenchProgram, WritesJsonAloneToStandardOutput) {
  const auto result = run_program("bench --ranks 2 --tokens 8 --hidden 64 --iterations 2 --json - --seed 7");
  EXPECT_EQ(result.exit_code, 0);
  const auto parsed = json::parse(result.output, nullptr, false);
  ASSERT_FALSE(parsed.is_discarded()) << result.output;
  EXPECT_EQ(parsed.at("config").at("seed"), 7);
}

TEST(BenchProgram, SaysIfTheJsonCannotBeWritten) {
  const auto result = run_program("bench --ranks 1 --tokens 8 --hidden 64 --iterations 1 --json /nowhere/result.json");
  EXPECT_EQ(result.exit_code, 1);
  EXPECT_THAT(result.output, HasSubstr("crossdock: cannot write --json /nowhere/result.json"));
}

}  // namespace
}  // namespace crossdock::tool
