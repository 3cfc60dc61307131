#include <crossdock/config.hpp>

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include <crossdock/error.hpp>

namespace crossdock {
namespace {

constexpr Config with_nvl_recv(int num_sms, int nvl_recv) {
  return {.num_sms = num_sms, .num_max_nvl_chunked_recv_tokens = nvl_recv};
}

double megabytes(std::size_t bytes) { return std::round(static_cast<double>(bytes) / 1e5) / 10; }

// The published figures of DeepEP V1 for hidden 7168 in bfloat16.
TEST(NvlBufferSizeHint, IsDeepEps) {
  EXPECT_EQ(megabytes(get_nvl_buffer_size_hint(with_nvl_recv(20, 256), 14336, 8)), 335.7);
  EXPECT_EQ(megabytes(get_nvl_buffer_size_hint(with_nvl_recv(24, 256), 14336, 8)), 402.9);
  EXPECT_EQ(megabytes(get_nvl_buffer_size_hint(with_nvl_recv(20, 288), 14336, 16)), 377.7);
}

TEST(NvlBufferSizeHint, IsRoundedUpTo128Bytes) {
  // 10 channels, 8 ranks: 80 * (4 * 5 + 256 * (14336 + 2056)) = 335'709'760.
  EXPECT_EQ(get_nvl_buffer_size_hint(with_nvl_recv(20, 256), 14336, 8), 335'709'824U);
  // 1 channel, 1 rank: 4 * 5 + 256 * (2 + 2056) = 526'868.
  EXPECT_EQ(get_nvl_buffer_size_hint(with_nvl_recv(2, 256), 2, 1), 526'976U);
  EXPECT_EQ(get_nvl_buffer_size_hint(with_nvl_recv(0, 256), 2, 1), 0U);
}

TEST(RdmaBufferSizeHint, IsDeepEps) {
  const Config config{.num_sms = 20, .num_max_rdma_chunked_send_tokens = 16, .num_max_rdma_chunked_recv_tokens = 128};
  EXPECT_EQ(get_rdma_buffer_size_hint(config, 14336, 1), 0U);
  EXPECT_EQ(get_rdma_buffer_size_hint(config, 14336, 8), 0U);
  EXPECT_EQ(megabytes(get_rdma_buffer_size_hint(config, 14336, 16)), 84.0);
  EXPECT_EQ(megabytes(get_rdma_buffer_size_hint(config, 14336, 32)), 168.0);
}

TEST(RdmaBufferSizeHint, RoundsReceiveUpToAMultipleOfSend) {
  const auto hint = [](int send, int recv) {
    return get_rdma_buffer_size_hint(
        {.num_sms = 2, .num_max_rdma_chunked_send_tokens = send, .num_max_rdma_chunked_recv_tokens = recv}, 128, 16);
  };
  EXPECT_EQ(hint(20, 128), hint(20, 140));
  EXPECT_LT(hint(16, 128), hint(20, 128));
}

TEST(DeepEpSizeHints, RefuseBadArguments) {
  EXPECT_THROW((void)get_nvl_buffer_size_hint({.num_sms = 3}, 128, 8), Error);
  EXPECT_THROW((void)get_nvl_buffer_size_hint({}, -1, 8), Error);
  EXPECT_THROW((void)get_rdma_buffer_size_hint({}, 128, 0), Error);
}

// Figures from the logs in DeepEP's issue 368 and pull request 458, and one more of its formula.
// DeepEP V1 get_low_latency_rdma_size_hint, as of its last version, for shapes that it allows.
std::size_t deep_ep_low_latency_hint(std::size_t tokens, std::size_t hidden, std::size_t experts) {
  const std::size_t dispatched = 16 + std::max(hidden * 2, hidden + hidden / 128 * 4);
  const std::size_t combined = hidden / 128 * 4 + hidden * 2;
  const std::size_t send = std::max(tokens * dispatched, experts * tokens * combined);
  const std::size_t receive = experts * tokens * std::max(dispatched, combined);
  const std::size_t signals = (experts * 4 + 127) / 128 * 128;
  return (2 * (send + receive + signals) + 128) / 128 * 128;
}

TEST(LowLatencyRdmaSizeHint, TheFormulaThatItIsComparedWithIsDeepEps) {
  EXPECT_EQ(deep_ep_low_latency_hint(128, 7168, 256), 1'908'410'496U);
  EXPECT_EQ(deep_ep_low_latency_hint(128, 3072, 288), 920'127'872U);
}

TEST(LowLatencyRdmaSizeHint, IsNeverLargerThanDeepEps) {
  for (const int tokens : {1, 8, 100, 128, 1024}) {
    for (const std::int64_t hidden : {2048, 2560, 4096, 5120, 7168, 8192}) {
      for (const int ranks : {1, 2, 8, 16, 64}) {
        for (const int local : {1, 2, 9, 32}) {
          EXPECT_LE(get_low_latency_rdma_size_hint(tokens, hidden, ranks, ranks * local),
                    deep_ep_low_latency_hint(static_cast<std::size_t>(tokens), static_cast<std::size_t>(hidden),
                                             static_cast<std::size_t>(ranks * local)))
              << tokens << " tokens, hidden " << hidden << ", " << ranks << " ranks, " << local << " local experts";
        }
      }
    }
  }
}

TEST(LowLatencyRdmaSizeHint, RefusesBadArguments) {
  EXPECT_THROW((void)get_low_latency_rdma_size_hint(-1, 128, 8, 8), Error);
  EXPECT_THROW((void)get_low_latency_rdma_size_hint(1, -1, 8, 8), Error);
  EXPECT_THROW((void)get_low_latency_rdma_size_hint(1, 128, 0, 8), Error);
  EXPECT_THROW((void)get_low_latency_rdma_size_hint(1, 128, 8, -1), Error);
  EXPECT_THROW((void)get_low_latency_rdma_size_hint(1, std::numeric_limits<std::int64_t>::max(), 8, 8), Error);
}

// Ten rows of 14 bytes, with two float scales and top-3: 140, 80, 240, 120 and 40 bytes.
constexpr ArenaSizeArgs kTenRows{.num_recv_tokens = 10, .row_bytes = 14, .num_scales = 2, .num_topk = 3};

TEST(ArenaSizeHint, IsTheSumOfTheSlabs) {
  EXPECT_EQ(get_arena_size_hint({.num_recv_tokens = 10, .row_bytes = 14}), 256U + 128U);
  EXPECT_EQ(get_arena_size_hint(kTenRows), 256U + 128U + 256U + 128U + 128U);
}

TEST(ArenaSizeHint, AddsTheRowsOfCombineAndItsWeights) {
  ArenaSizeArgs args = kTenRows;
  args.combine_row_bytes = 28;  // 280 bytes, and 120 of weights
  EXPECT_EQ(get_arena_size_hint(args), 896U + 384U + 128U);
  args.num_topk = 0;
  EXPECT_EQ(get_arena_size_hint(args), 256U + 128U + 128U + 384U);
}

TEST(ArenaSizeHint, CountsOperationsInFlight) {
  ArenaSizeArgs args = kTenRows;
  args.operations_in_flight = 3;
  EXPECT_EQ(get_arena_size_hint(args), 3U * 896U);
}

TEST(ArenaSizeHint, OfAnExpandedDispatchHasNoIdsAndOneWeight) {
  ArenaSizeArgs args = kTenRows;
  args.num_local_experts = 40;
  EXPECT_EQ(get_arena_size_hint(args), 256U + 128U + 128U + 128U + 256U);
  args.combine_row_bytes = 28;
  EXPECT_EQ(get_arena_size_hint(args), 896U + 384U + 128U);
}

TEST(ArenaSizeHint, IsNothingWithoutRows) { EXPECT_EQ(get_arena_size_hint({.row_bytes = 14336, .num_topk = 8}), 0U); }

TEST(ArenaSizeHint, RefusesNegativeFields) {
  EXPECT_THROW((void)get_arena_size_hint({.num_recv_tokens = -1}), Error);
  EXPECT_THROW((void)get_arena_size_hint({.row_bytes = -1}), Error);
  EXPECT_THROW((void)get_arena_size_hint({.num_scales = -1}), Error);
  EXPECT_THROW((void)get_arena_size_hint({.scale_bytes = -1}), Error);
  EXPECT_THROW((void)get_arena_size_hint({.num_topk = -1}), Error);
  EXPECT_THROW((void)get_arena_size_hint({.combine_row_bytes = -1}), Error);
  EXPECT_THROW((void)get_arena_size_hint({.operations_in_flight = -1}), Error);
  EXPECT_THROW((void)get_arena_size_hint({.num_local_experts = -1}), Error);
}

TEST(ArenaSizeHint, NoticesOverflow) {
  constexpr std::int64_t kHuge = std::numeric_limits<std::int64_t>::max();
  for (const ArenaSizeArgs& args :
       {ArenaSizeArgs{.num_recv_tokens = kHuge, .row_bytes = 3},
        ArenaSizeArgs{.num_recv_tokens = kHuge, .row_bytes = 1},
        ArenaSizeArgs{.num_recv_tokens = 1, .row_bytes = kHuge, .operations_in_flight = 3}}) {
    try {
      const std::size_t bytes = get_arena_size_hint(args);
      ADD_FAILURE() << "no error, but " << bytes;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kCapacity);
    }
  }
}

}  // namespace
}  // namespace crossdock
