// The oracle of the low-latency benchmark agrees with the serial reference, and finds differences.
#include "crossdock/low_latency_verify.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "crossdock/bench_input.hpp"
#include "reference/low_latency.hpp"

namespace crossdock::tool {
namespace {

namespace oracle = reference::low_latency;
using testing::HasSubstr;

constexpr int kRanks = 3;
constexpr std::int64_t kTokens = 20;
constexpr std::int64_t kHidden = 200;
constexpr int kTopk = 3;
constexpr int kExperts = 7;
constexpr std::int64_t kPlaces = kRanks * kTokens;
constexpr std::int64_t kGroups = 2;

template <typename T>
Tensor view(std::vector<T>& values, DataType dtype, std::initializer_list<std::int64_t> shape) {
  return Tensor::own(nullptr, values.data(), dtype, {shape.begin(), shape.size()});
}

/// Dispatch and combine of a small benchmark by the reference.
class PackedBench {
 public:
  explicit PackedBench(PayloadType dtype, bool use_logfmt = false)
      : pattern(kHidden, 1, use_logfmt ? RowRange::kBelowOne : RowRange::kAroundOne) {
    config.use_logfmt = use_logfmt;
    config.mode = OperationMode::kLowLatency;
    config.num_ranks = kRanks;
    config.num_tokens = kTokens;
    config.hidden = kHidden;
    config.num_topk = kTopk;
    config.num_experts = kExperts;
    config.dtype = dtype;
    complete(config);
    routing = make_routing(config);
    routing.topk_idx[4] = -1;
    for (std::size_t k = 0; k < kTopk; ++k) routing.topk_idx[9 + k] = -1;  // token 3 of rank 0 goes nowhere
    routing.topk_idx[12] = routing.topk_idx[13] = 6;                       // token 4 names an expert twice
    dispatched = oracle::dispatch(make_world());
  }

  [[nodiscard]] PackedTensors received(std::size_t rank) {
    auto& mine = dispatched[rank];
    const auto local = static_cast<std::int64_t>(mine.count.size());
    PackedTensors result;
    if (config.dtype == PayloadType::kBf16) {
      result.x = view(mine.x, DataType::kBfloat16, {local, kPlaces, kHidden});
    } else {
      result.x = view(mine.x_float8, DataType::kFloat8E4m3, {local, kPlaces, kHidden});
      result.scales = view(mine.scales, DataType::kFloat32, {local, kPlaces, kGroups})
                          .with_strides({kGroups * kPlaces, 1, kPlaces});
    }
    result.count = view(mine.count, DataType::kInt32, {local});
    result.src_info = view(mine.src_info, DataType::kInt32, {local, kPlaces});
    result.layout_range = view(mine.layout_range, DataType::kInt64, {local, kRanks});
    return result;
  }

  /// What the reference makes of the answers of the benchmark's experts.
  [[nodiscard]] std::vector<std::vector<Bfloat16>> combine(ExpertMark mark) {
    const plan::ExpertMap experts(kExperts, kRanks);
    oracle::CombineWorld world;
    world.num_experts = kExperts;
    world.num_topk = kTopk;
    world.hidden = kHidden;
    world.max_tokens = kTokens;
    world.format = config.use_logfmt ? oracle::WireFormat::kLogFmt : oracle::WireFormat::kBfloat16;
    for (int rank = 0; rank < kRanks; ++rank) {
      oracle::CombineRank mine;
      mine.num_tokens = kTokens;
      mine.x.resize(static_cast<std::size_t>(experts.count(rank) * kPlaces * kHidden));
      answer_packed_rows(config, received(static_cast<std::size_t>(rank)), mark, experts.begin(rank),
                         view(mine.x, DataType::kBfloat16, {experts.count(rank), kPlaces, kHidden}));
      const auto ids = routing.ids_of(rank);
      const auto weights = routing.weights_of(rank);
      mine.topk_idx.assign(ids.begin(), ids.end());
      mine.topk_weights.assign(weights.begin(), weights.end());
      world.ranks.push_back(std::move(mine));
    }
    return oracle::combine(world, dispatched);
  }

  BenchConfig config;
  Routing routing;
  RowPattern pattern;
  std::vector<oracle::DispatchedRank> dispatched;
  [[nodiscard]] BenchWorld world() const { return {config, routing, pattern}; }

 private:
  [[nodiscard]] oracle::DispatchWorld make_world() const {
    oracle::DispatchWorld world;
    world.num_experts = kExperts;
    world.num_topk = kTopk;
    world.hidden = kHidden;
    world.max_tokens = kTokens;
    world.format = config.dtype == PayloadType::kFp8 ? oracle::RowFormat::kFloat8 : oracle::RowFormat::kBfloat16;
    for (int rank = 0; rank < kRanks; ++rank) {
      const auto input = make_bench_input(config, routing, pattern, rank);
      const auto* x = input.x.data_as<Bfloat16>();
      const auto ids = routing.ids_of(rank);
      world.ranks.push_back({kTokens, {x, x + input.x.num_elements()}, {ids.begin(), ids.end()}, {}});
    }
    return world;
  }
};

class LowLatencyVerify : public testing::TestWithParam<PayloadType> {};

TEST_P(LowLatencyVerify, AgreesWithTheReference) {
  for (const bool use_logfmt : {false, true}) {
    PackedBench bench(GetParam(), use_logfmt);
    for (std::size_t rank = 0; rank < kRanks; ++rank) {
      EXPECT_EQ(find_packed_mismatch(bench.world(), static_cast<int>(rank), bench.received(rank)), "");
    }
    for (const auto mark : {ExpertMark::kNone, ExpertMark::kExpert}) {
      auto combined = bench.combine(mark);
      for (std::size_t rank = 0; rank < kRanks; ++rank) {
        const Tensor tensor = view(combined[rank], DataType::kBfloat16, {kTokens, kHidden});
        EXPECT_EQ(find_weighted_mismatch(bench.world(), static_cast<int>(rank), mark, tensor), "");
      }
    }
  }
}

TEST_P(LowLatencyVerify, TellsLogFmtFromBfloat16) {
  PackedBench bench(GetParam(), true);
  auto combined = bench.combine(ExpertMark::kNone);
  const Tensor tensor = view(combined[0], DataType::kBfloat16, {kTokens, kHidden});
  bench.config.use_logfmt = false;
  EXPECT_THAT(find_weighted_mismatch(bench.world(), 0, ExpertMark::kNone, tensor), HasSubstr("token 0"));
}

TEST_P(LowLatencyVerify, FindsOneWrongByteAnywhere) {
  PackedBench bench(GetParam());
  auto& mine = bench.dispatched[1];
  ASSERT_GT(mine.count[0], 1);
  const auto mismatch = [&] { return find_packed_mismatch(bench.world(), 1, bench.received(1)); };
  const bool is_fp8 = GetParam() == PayloadType::kFp8;
  auto* bytes = is_fp8 ? mine.x_float8.data() : reinterpret_cast<std::uint8_t*>(mine.x.data());
  const auto second_row = static_cast<std::size_t>(kHidden) * (is_fp8 ? 1 : 2);
  bytes[second_row] ^= 1U;
  EXPECT_THAT(mismatch(), HasSubstr("the payload of row 1"));
  bytes[second_row] ^= 1U;
  if (is_fp8) {
    mine.scales[kPlaces + 1] *= 2;
    EXPECT_THAT(mismatch(), HasSubstr("a scale of row 1"));
    mine.scales[kPlaces + 1] /= 2;
  }
  mine.src_info[0] += 1;
  EXPECT_THAT(mismatch(), HasSubstr("the source token of row 0"));
  mine.src_info[0] -= 1;
  mine.layout_range[2] += 1;
  EXPECT_THAT(mismatch(), HasSubstr("a wrong range of rows of rank 2"));
  mine.layout_range[2] -= 1;
  mine.count[1] -= 1;
  EXPECT_THAT(mismatch(), HasSubstr("rows, not"));
  mine.count[1] += 1;
  EXPECT_EQ(mismatch(), "");
}

TEST_P(LowLatencyVerify, FindsAWrongSum) {
  PackedBench bench(GetParam());
  auto combined = bench.combine(ExpertMark::kExpert);
  const Tensor tensor = view(combined[2], DataType::kBfloat16, {kTokens, kHidden});
  EXPECT_NE(find_weighted_mismatch(bench.world(), 2, ExpertMark::kNone, tensor), "");
  combined[2][7 * kHidden + 100].bits ^= 1U;
  EXPECT_THAT(find_weighted_mismatch(bench.world(), 2, ExpertMark::kExpert, tensor), HasSubstr("token 7"));
}

INSTANTIATE_TEST_SUITE_P(Types, LowLatencyVerify, testing::Values(PayloadType::kBf16, PayloadType::kFp8),
                         [](const auto& test) { return std::string(name_of(test.param)); });

}  // namespace
}  // namespace crossdock::tool
