#include "crossdock/bench_result.hpp"

#include <numeric>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "crossdock/bench_report.hpp"

namespace crossdock::tool {
namespace {

TEST(NearestRank, IsAnElementOfTheList) {
  std::vector<double> values(100);
  std::iota(values.begin(), values.end(), 1.0);
  EXPECT_EQ(nearest_rank(values, 50), 50);
  EXPECT_EQ(nearest_rank(values, 90), 90);
  EXPECT_EQ(nearest_rank(values, 99), 99);
  EXPECT_EQ(nearest_rank(values, 100), 100);
  EXPECT_EQ(nearest_rank({7.0}, 1), 7);
  EXPECT_EQ(nearest_rank({1.0, 2.0, 3.0}, 50), 2);
  EXPECT_EQ(nearest_rank({1.0, 2.0, 3.0}, 99), 3);
}

BenchConfig small_config() {
  BenchConfig config;
  config.num_ranks = 2;
  config.hidden = 256;
  config.num_topk = 2;
  config.num_experts = 4;
  config.iterations = 3;
  return config;
}

/// Three iterations of two ranks; the slowest rank decides: 30, 20 and 40 microseconds.
void fill(const BenchShared& shared) {
  shared.sample(0, 0).dispatch = {1000, 11000, {1, 0, 0, 2, 0}};
  shared.sample(0, 1).dispatch = {5000, 31000, {3, 0, 0, 4, 0}};
  shared.sample(1, 0).dispatch = {100000, 120000, {}};
  shared.sample(1, 1).dispatch = {110000, 119000, {}};
  shared.sample(2, 0).dispatch = {240000, 250000, {}};
  shared.sample(2, 1).dispatch = {210000, 230000, {}};
  for (RankSummary& summary : shared.summaries.values()) {
    summary.verified = true;
    summary.inputs_bytes = 10;
    summary.pss_bytes = 100;
  }
}

TEST(BenchResult, TakesTheSlowestRankOfEachIteration) {
  const BenchShared shared(2, 3);
  fill(shared);
  const auto result = evaluate(small_config(), shared, 60);
  EXPECT_DOUBLE_EQ(result.dispatch.min_us, 20);
  EXPECT_DOUBLE_EQ(result.dispatch.p50_us, 30);
  EXPECT_DOUBLE_EQ(result.dispatch.p99_us, 40);
  EXPECT_DOUBLE_EQ(result.dispatch.parts.layout_us, 2);
  EXPECT_DOUBLE_EQ(result.dispatch.parts.copy_us, 3);
  EXPECT_EQ(result.dispatch.bytes, 60 * 512);
  EXPECT_NEAR(result.dispatch.gb_per_s(), 60 * 512 / 30e3, 1e-12);
  EXPECT_EQ(result.memory.pss_bytes, 200);
  EXPECT_TRUE(result.verified);
}

TEST(BenchResult, OneWrongRankMakesItWrong) {
  const BenchShared shared(2, 3);
  fill(shared);
  shared.summary(1).verified = false;
  shared.summary(1).set_mismatch(std::string(1000, 'x'));
  const auto result = evaluate(small_config(), shared, 60);
  EXPECT_FALSE(result.verified);
  EXPECT_EQ(result.mismatch, std::string(255, 'x'));
  EXPECT_NE(bench_table(small_config(), result, {false, 100}).find("WRONG"), std::string::npos);
  EXPECT_FALSE(nlohmann::json::parse(bench_json(small_config(), result)).at("verified").get<bool>());
}

TEST(BenchResult, Fp8CountsScalesInDispatchAndBf16InCombine) {
  const BenchShared shared(2, 3);
  fill(shared);
  auto config = small_config();
  config.dtype = PayloadType::kFp8;
  const auto result = evaluate(config, shared, 10);
  EXPECT_EQ(result.dispatch.bytes, 10 * (256 + 2 * 4));
  EXPECT_EQ(result.combine.bytes, 10 * 512);
}

}  // namespace
}  // namespace crossdock::tool
