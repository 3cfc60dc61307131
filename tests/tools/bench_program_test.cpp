// crossdock bench on small shapes, and what it writes.
#include <cstdint>
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

TEST(BenchProgram, SendsARowForEachSelection) {
  const auto result = run_bench("--ranks 2 --tokens 100 --hidden 256 --topk 4 --experts 4 --expand 64");
  expect_complete(result);
  EXPECT_EQ(result.at("phases").at("dispatch").at("bytes"), 2 * 4 * 100 * 512);
  EXPECT_EQ(result.at("config").at("expand"), 64);
  for (const std::string more : {"7 --dtype fp8 --worst-case", "7 --cached", "1 --combine-input outside"}) {
    expect_complete(run_bench("--ranks 3 --tokens 30 --hidden 128 --topk 3 --experts 8 --expand " + more));
  }
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

/// Low-latency phases have times and no parts.
void expect_complete_low_latency(const json& result, std::int64_t selections, std::int64_t row_bytes,
                                 std::int64_t combine_row_bytes) {
  ASSERT_EQ(result.at("schema"), 1);
  EXPECT_EQ(result.at("verified"), true);
  EXPECT_EQ(result.at("config").at("mode"), "low-latency");
  const json& phases = result.at("phases");
  EXPECT_EQ(phases.at("dispatch").at("bytes"), selections * row_bytes);
  EXPECT_EQ(phases.at("combine").at("bytes"), selections * combine_row_bytes);
  EXPECT_EQ(phases.at("round_trip").at("bytes"), selections * (row_bytes + combine_row_bytes));
  for (const char* name : {"dispatch", "combine", "round_trip"}) {
    const json& phase = phases.at(name);
    EXPECT_GT(phase.at("min_us").get<double>(), 0) << name;
    EXPECT_LE(phase.at("min_us").get<double>(), phase.at("p50_us").get<double>()) << name;
    EXPECT_LE(phase.at("p50_us").get<double>(), phase.at("p90_us").get<double>()) << name;
    EXPECT_LE(phase.at("p90_us").get<double>(), phase.at("p99_us").get<double>()) << name;
    EXPECT_GE(phase.at("gb_per_s").get<double>(), 0) << name;
    EXPECT_FALSE(phase.contains("parts")) << name;
  }
  EXPECT_EQ(phases.at("round_trip").at("blocks"), 10);
  EXPECT_EQ(phases.at("round_trip").at("loops_per_block"), 3);
}

TEST(BenchProgram, LowLatencyCountsARowForEachTokenAndExpert) {
  const auto result = run_bench("--mode low-latency --ranks 2 --tokens 16 --hidden 256 --topk 4 --experts 8");
  expect_complete_low_latency(result, std::int64_t{2} * 16 * 4, 512, 512);
  EXPECT_EQ(result.at("config").at("combine_input"), "arena");
  EXPECT_FALSE(result.contains("logfmt"));
  // Received are places for the most that can come: four experts of a rank, 2 * 16 places of each.
  EXPECT_EQ(result.at("memory").at("received_bytes"), 2 * (4 * 32 * (512 + 4) + 4 * 4 + 4 * 2 * 8));
  EXPECT_EQ(result.at("memory").at("outputs_bytes"), 2 * 16 * 512);
}

TEST(BenchProgram, LowLatencyCastsToFp8WithAShortLastGroup) {
  const auto result =
      run_bench("--mode low-latency --ranks 3 --tokens 9 --hidden 200 --topk 3 --experts 7 --dtype fp8 --threads");
  expect_complete_low_latency(result, std::int64_t{3} * 9 * 3, 200 + 2 * 4, 400);
}

TEST(BenchProgram, LowLatencyCombinesFromOutside) {
  for (const std::string dtype : {"bf16", "fp8"}) {
    const auto result = run_bench(
        "--mode low-latency --ranks 2 --tokens 5 --hidden 128 --topk 2 --experts 5 "
        "--combine-input outside --dtype " +
        dtype);
    expect_complete_low_latency(result, std::int64_t{2} * 5 * 2, dtype == "fp8" ? 132 : 256, 256);
    EXPECT_EQ(result.at("config").at("combine_input"), "outside");
  }
}

void expect_logfmt(const json& result, std::int64_t bf16_bytes, std::int64_t wire_bytes) {
  EXPECT_EQ(result.at("config").at("logfmt"), true);
  EXPECT_EQ(result.at("logfmt").at("bf16_bytes"), bf16_bytes);
  EXPECT_EQ(result.at("logfmt").at("wire_bytes"), wire_bytes);
  const double saved = 100 - 100 * static_cast<double>(wire_bytes) / static_cast<double>(bf16_bytes);
  EXPECT_NEAR(result.at("logfmt").at("saved_percent").get<double>(), saved, 1e-9);
}

TEST(BenchProgram, LowLatencyCombinesAsLogFmt) {
  // 8 groups of 4 bytes, then a chunk of 1024 elements in 64 packs of 20 bytes.
  for (const std::string options : {"", "--combine-input inplace", "--threads"}) {
    const auto result =
        run_bench("--mode low-latency --ranks 2 --tokens 16 --hidden 1024 --topk 4 --experts 8 --logfmt " + options);
    expect_complete_low_latency(result, std::int64_t{2} * 16 * 4, 2048, 2048);
    expect_logfmt(result, std::int64_t{128} * 2048, std::int64_t{128} * (32 + 1280));
  }
  // Two groups, padded to 16 bytes, and 13 packs. What FP8 makes of rows below 1 is below 1.
  const auto result =
      run_bench("--mode low-latency --ranks 3 --tokens 9 --hidden 200 --topk 3 --experts 7 --dtype fp8 --logfmt");
  expect_complete_low_latency(result, std::int64_t{3} * 9 * 3, 200 + 2 * 4, 400);
  expect_logfmt(result, std::int64_t{81} * 400, std::int64_t{81} * (16 + std::int64_t{13} * 20));
}

TEST(BenchProgram, LowLatencyHandlesRanksWithoutTokensOrExperts) {
  expect_complete_low_latency(run_bench("--mode low-latency --ranks 2 --tokens 0 --hidden 64 --topk 1 --experts 2"), 0,
                              128, 128);
  expect_complete_low_latency(run_bench("--mode low-latency --ranks 5 --tokens 7 --hidden 33 --topk 2 --experts 3"),
                              std::int64_t{5} * 7 * 2, 66, 66);
  expect_complete_low_latency(run_bench("--mode low-latency --ranks 1 --tokens 7 --hidden 1 --topk 1 --experts 1"), 7,
                              2, 2);
}

TEST(BenchProgram, LowLatencyTakesItsRoutingFromATrace) {
  const auto result =
      run_bench("--mode low-latency --ranks 4 --tokens 16 --hidden 64 --routing trace_e256_k8.safetensors:1");
  EXPECT_EQ(result.at("config").at("experts"), 256);
  expect_complete_low_latency(result, std::int64_t{4} * 16 * 8, 128, 128);
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
