#include <crossdock/config.hpp>

#include <algorithm>
#include <array>

#include "base/error.hpp"

namespace crossdock {

namespace {

/// Chunk sizes in the order of Config.
struct Chunks {
  int nvl_send;
  int nvl_recv;
  int rdma_send;
  int rdma_recv;
};

struct TunedRanks {
  int num_ranks;
  Chunks dispatch;
  Chunks combine;
};

/// The seed's table (rtp_llm::DeepEPBuffer, DeepEP's numbers of May 2025), ascending.
constexpr std::array<TunedRanks, 10> kTuned{{
    {2, {16, 256, 6, 128}, {6, 256, 6, 128}},
    {4, {16, 256, 6, 128}, {6, 256, 6, 128}},
    {8, {6, 256, 6, 128}, {6, 256, 6, 128}},
    {16, {16, 288, 20, 128}, {2, 288, 28, 128}},
    {24, {8, 288, 32, 128}, {1, 288, 20, 128}},
    {32, {8, 288, 32, 128}, {1, 288, 20, 128}},
    {64, {20, 288, 28, 128}, {1, 288, 20, 128}},
    {128, {20, 560, 32, 128}, {1, 560, 12, 128}},
    {144, {32, 720, 12, 128}, {2, 720, 8, 128}},
    {160, {28, 720, 12, 128}, {2, 720, 8, 128}},
}};

void require_even_sms(int num_sms) {
  require(num_sms >= 0 && num_sms % 2 == 0, "num_sms is {}; allowed are even numbers from 0", num_sms);
}

const TunedRanks& tuned_for(int num_ranks) {
  require(num_ranks >= 1, "a configuration for {} ranks; there is at least 1 rank", num_ranks);
  const auto* const found = std::ranges::lower_bound(kTuned, num_ranks, {}, &TunedRanks::num_ranks);
  return found != kTuned.end() ? *found : kTuned.back();
}

Config make_config(int num_sms, const Chunks& chunks) {
  require_even_sms(num_sms);
  return {num_sms, chunks.nvl_send, chunks.nvl_recv, chunks.rdma_send, chunks.rdma_recv};
}

}  // namespace

void Config::validate() const {
  require_even_sms(num_sms);
  require(num_max_nvl_chunked_send_tokens > 0 && num_max_nvl_chunked_recv_tokens > 0 &&
              num_max_rdma_chunked_send_tokens > 0 && num_max_rdma_chunked_recv_tokens > 0,
          "chunk sizes (NVLink send, receive, RDMA send, receive) are {}, {}, {}, {}; all must be greater than 0",
          num_max_nvl_chunked_send_tokens, num_max_nvl_chunked_recv_tokens, num_max_rdma_chunked_send_tokens,
          num_max_rdma_chunked_recv_tokens);
  require(num_max_nvl_chunked_send_tokens < num_max_nvl_chunked_recv_tokens,
          "num_max_nvl_chunked_send_tokens is {}; it must be less than num_max_nvl_chunked_recv_tokens, {}",
          num_max_nvl_chunked_send_tokens, num_max_nvl_chunked_recv_tokens);
  const std::int64_t send = num_max_rdma_chunked_send_tokens;
  const std::int64_t recv = (num_max_rdma_chunked_recv_tokens + send - 1) / send * send;
  require(send <= recv / 2,
          "num_max_rdma_chunked_send_tokens is {}; it must be at most half of num_max_rdma_chunked_recv_tokens, {} "
          "(rounded up to a multiple of it: {})",
          send, num_max_rdma_chunked_recv_tokens, recv);
}

Config get_dispatch_config(int num_ranks, int num_sms) { return make_config(num_sms, tuned_for(num_ranks).dispatch); }

Config get_combine_config(int num_ranks, int num_sms) { return make_config(num_sms, tuned_for(num_ranks).combine); }

}  // namespace crossdock
