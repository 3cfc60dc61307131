// The oracle that makes rows one at a time agrees with the serial reference, and finds differences.
#include "crossdock/bench_verify.hpp"

#include <cstring>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "crossdock/bench_input.hpp"
#include "reference/throughput.hpp"

namespace crossdock::tool {
namespace {

using testing::HasSubstr;

constexpr int kRanks = 3;

template <typename T>
std::vector<T> copy_of(const Tensor& tensor) {
  const auto* data = tensor.data_as<T>();
  return {data, data + tensor.num_bytes() / sizeof(T)};
}

/// Dispatch and combine of a small benchmark by the reference.
class ReferenceBench {
 public:
  explicit ReferenceBench(PayloadType dtype) {
    config.num_ranks = kRanks;
    config.num_tokens = 20;
    config.hidden = 256;
    config.num_topk = 3;
    config.num_experts = 7;
    config.dtype = dtype;
    complete(config);
    routing = make_routing(config);
    routing.topk_idx[4] = -1;
    for (std::size_t k = 0; k < 3; ++k) routing.topk_idx[9 + k] = -1;  // token 3 of rank 0 goes nowhere
    reference::DispatchWorld world{
        7, 3, static_cast<std::size_t>(config.row_bytes()), static_cast<std::size_t>(config.num_scales()) * 4, {}};
    for (int rank = 0; rank < kRanks; ++rank) world.ranks.push_back(make_rank(rank));
    dispatched = reference::dispatch(world);
  }

  [[nodiscard]] ReceivedTensors received(std::size_t rank) {
    auto& mine = dispatched[rank];
    const auto rows = mine.num_recv_tokens;
    const auto type = config.dtype == PayloadType::kBf16 ? DataType::kBfloat16 : DataType::kFloat8E4m3;
    ReceivedTensors result;
    result.recv_x = Tensor::borrow(static_cast<void*>(mine.recv_x.data()), type, {rows, config.hidden});
    if (config.num_scales() > 0) {
      result.recv_x_scales =
          Tensor::borrow(static_cast<void*>(mine.recv_scales.data()), DataType::kFloat32, {rows, config.num_scales()});
    }
    result.recv_topk_idx = Tensor::borrow(static_cast<void*>(mine.recv_topk_idx.data()), DataType::kInt64, {rows, 3});
    result.recv_topk_weights =
        Tensor::borrow(static_cast<void*>(mine.recv_topk_weights.data()), DataType::kFloat32, {rows, 3});
    result.recv_src_idx = Tensor::borrow(static_cast<void*>(mine.recv_src_idx.data()), DataType::kInt32, {rows});
    return result;
  }

  [[nodiscard]] std::vector<reference::CombinedRank> combine(ExpertMark mark) const {
    reference::CombineWorld world{DataType::kBfloat16, config.hidden, 0, {}};
    const auto hidden = static_cast<std::size_t>(config.hidden);
    for (int rank = 0; rank < kRanks; ++rank) {
      const auto& mine = dispatched[static_cast<std::size_t>(rank)];
      std::vector<Bfloat16> rows(static_cast<std::size_t>(mine.num_recv_tokens) * hidden);
      for (std::size_t row = 0; row < static_cast<std::size_t>(mine.num_recv_tokens); ++row) {
        const std::span<Bfloat16> out(&rows[row * hidden], hidden);
        answer(mine, row, out);
        if (mark == ExpertMark::kRank) mark_row(out, rank);
      }
      const auto bytes = std::as_bytes(std::span(rows));
      world.ranks.push_back({config.num_tokens, {bytes.begin(), bytes.end()}, {}, {}, {}});
    }
    return reference::combine(world, dispatched);
  }

  BenchConfig config;
  Routing routing;
  RowPattern pattern{256, 1};
  std::vector<reference::DispatchedRank> dispatched;
  [[nodiscard]] BenchWorld world() const { return {config, routing, pattern}; }

 private:
  [[nodiscard]] reference::DispatchRank make_rank(int rank) const {
    const auto input = make_bench_input(config, routing, pattern, rank);
    reference::DispatchRank result;
    result.num_tokens = config.num_tokens;
    result.x = copy_of<std::byte>(input.x);
    if (input.x_scales) result.scales = copy_of<std::byte>(*input.x_scales);
    result.topk_idx = copy_of<std::int64_t>(*input.topk_idx);
    result.topk_weights = copy_of<float>(*input.topk_weights);
    return result;
  }

  void answer(const reference::DispatchedRank& mine, std::size_t row, std::span<Bfloat16> out) const {
    if (config.dtype == PayloadType::kBf16) {
      std::memcpy(static_cast<void*>(out.data()), &mine.recv_x[row * out.size_bytes()], out.size_bytes());
      return;
    }
    std::vector<std::uint8_t> codes(out.size());
    std::vector<float> scales(out.size() / 128);
    std::memcpy(codes.data(), &mine.recv_x[row * codes.size()], codes.size());
    std::memcpy(scales.data(), &mine.recv_scales[row * scales.size() * 4], scales.size() * 4);
    dequantize(codes, scales, out);
  }
};

class BenchVerify : public testing::TestWithParam<PayloadType> {};

TEST_P(BenchVerify, AgreesWithTheReference) {
  ReferenceBench bench(GetParam());
  for (std::size_t rank = 0; rank < kRanks; ++rank) {
    EXPECT_EQ(find_dispatch_mismatch(bench.world(), static_cast<int>(rank), bench.received(rank)), "");
  }
  for (const auto mark : {ExpertMark::kNone, ExpertMark::kRank}) {
    const auto combined = bench.combine(mark);
    for (std::size_t rank = 0; rank < kRanks; ++rank) {
      const void* rows = combined[rank].combined_x.data();
      const auto tensor = Tensor::borrow(rows, DataType::kBfloat16, {20, 256});
      EXPECT_EQ(find_combine_mismatch(bench.world(), static_cast<int>(rank), mark, tensor), "");
    }
  }
}

TEST_P(BenchVerify, FindsOneWrongByteAnywhere) {
  ReferenceBench bench(GetParam());
  auto& mine = bench.dispatched[1];
  const auto mismatch = [&] { return find_dispatch_mismatch(bench.world(), 1, bench.received(1)); };
  mine.recv_x.back() ^= std::byte{1};
  EXPECT_THAT(mismatch(), HasSubstr("the payload"));
  mine.recv_x.back() ^= std::byte{1};
  mine.recv_src_idx[0] += 1;
  EXPECT_THAT(mismatch(), HasSubstr("the source token of received row 0"));
  mine.recv_src_idx[0] -= 1;
  mine.recv_topk_idx[5] = 6;
  EXPECT_THAT(mismatch(), HasSubstr("the local expert ids of received row 1"));
  ReferenceBench again(GetParam());
  again.dispatched[1].recv_topk_weights.back() += 1;
  EXPECT_THAT(find_dispatch_mismatch(again.world(), 1, again.received(1)), HasSubstr("the weights"));
  again.dispatched[0].num_recv_tokens -= 1;
  EXPECT_THAT(find_dispatch_mismatch(again.world(), 0, again.received(0)), HasSubstr("received only"));
}

TEST_P(BenchVerify, FindsAWrongSum) {
  ReferenceBench bench(GetParam());
  auto combined = bench.combine(ExpertMark::kRank);
  const auto tensor = Tensor::borrow(static_cast<void*>(combined[2].combined_x.data()), DataType::kBfloat16, {20, 256});
  EXPECT_NE(find_combine_mismatch(bench.world(), 2, ExpertMark::kNone, tensor), "");
  combined[2].combined_x[7 * 512 + 100] ^= std::byte{1};
  EXPECT_THAT(find_combine_mismatch(bench.world(), 2, ExpertMark::kRank, tensor), HasSubstr("token 7"));
}

INSTANTIATE_TEST_SUITE_P(Types, BenchVerify, testing::Values(PayloadType::kBf16, PayloadType::kFp8),
                         [](const auto& test) { return std::string(name_of(test.param)); });

}  // namespace
}  // namespace crossdock::tool
