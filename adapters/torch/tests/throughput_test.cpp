// Layout, dispatch and combine in every combination that the class allows, against the library's own class.
#include <gtest/gtest.h>

#include <array>
#include <string>

#include "ranks.hpp"

namespace crossdock::torch::testing {
namespace {

/// How the operations are called.
struct Case {
  int num_ranks = 1;
  bool with_previous_event = false;
  bool async_finish = false;
  bool on_comm_stream = false;
  bool fp8 = false;
  bool with_topk = false;
  bool with_config = false;
};

class ThroughputRun {
 public:
  ThroughputRun(DeepEPBuffer& buffer, int rank, const Case& c)
      : case_(c), buffer_(buffer), tokens_(make_tokens(rank, c.num_ranks)) {}

  void run() {
    layout_ = buffer_.getDispatchLayout(tokens_.topk_idx, tokens_.num_experts, previous(), case_.async_finish,
                                        case_.on_comm_stream);
    finish(layout_.event_overlap);
    check_layout();
    const DeepEPDispatchOutput received = dispatch();
    finish(received.event_overlap);
    const DispatchOutput expected = buffer_.buffer().dispatch(input());
    check(received, expected);
    check_cached(received);
    check_combine(received, expected);
  }

 private:
  [[nodiscard]] std::shared_ptr<EventOverlap> previous() {
    return case_.with_previous_event ? buffer_.capture() : nullptr;
  }
  void finish(const std::shared_ptr<EventOverlap>& overlap) const {
    ASSERT_NE(overlap, nullptr);
    ASSERT_EQ(overlap->event().has_value(), case_.async_finish);
    if (case_.async_finish) overlap->currentStreamWait();
  }
  [[nodiscard]] const at::Tensor& rows() const { return case_.fp8 ? tokens_.fp8 : tokens_.x; }
  [[nodiscard]] std::optional<at::Tensor> scales() const {
    if (!case_.fp8) return std::nullopt;
    return tokens_.scales;
  }
  [[nodiscard]] std::optional<Config> config() const {
    if (!case_.with_config) return std::nullopt;
    return buffer_.getDispatchConfig();
  }
  [[nodiscard]] DeepEPDispatchOutput dispatch() {
    const auto topk = [&](const at::Tensor& t) { return case_.with_topk ? std::optional(t) : std::nullopt; };
    return buffer_.dispatch(rows(), scales(), std::nullopt, layout_.num_tokens_per_rank,
                            layout_.num_tokens_per_rdma_rank, layout_.is_token_in_rank, layout_.num_tokens_per_expert,
                            topk(tokens_.topk_idx), topk(tokens_.topk_weights), 8, config(), previous(),
                            case_.async_finish, case_.on_comm_stream);
  }
  [[nodiscard]] DispatchInput input() const {
    DispatchInput input;
    input.x = borrow(rows());
    if (case_.fp8) input.x_scales = borrow(tokens_.scales);
    if (case_.with_topk) input.topk_idx = borrow(tokens_.topk_idx);
    if (case_.with_topk) input.topk_weights = borrow(tokens_.topk_weights);
    input.layout = DispatchLayout{borrow(layout_.num_tokens_per_rank), std::nullopt,
                                  borrow(layout_.num_tokens_per_expert), borrow(layout_.is_token_in_rank)};
    input.expert_alignment = 8;
    return input;
  }

  void check_layout() {
    const DispatchLayout expected = buffer_.buffer().get_dispatch_layout(borrow(tokens_.topk_idx), tokens_.num_experts);
    expect_same("num_tokens_per_rank", layout_.num_tokens_per_rank, expected.num_tokens_per_rank);
    expect_same("num_tokens_per_rdma_rank", layout_.num_tokens_per_rdma_rank, expected.num_tokens_per_node);
    expect_same("num_tokens_per_expert", layout_.num_tokens_per_expert, expected.num_tokens_per_expert);
    expect_same("is_token_in_rank", layout_.is_token_in_rank, expected.is_token_in_rank);
  }

  void check(const DeepEPDispatchOutput& received, const DispatchOutput& expected) const {
    expect_same("recv_x", received.recv_x, expected.recv_x);
    expect_same("recv_x_scales", received.recv_x_scales, expected.recv_x_scales);
    expect_same("recv_topk_idx", received.recv_topk_idx, expected.recv_topk_idx);
    expect_same("recv_topk_weights", received.recv_topk_weights, expected.recv_topk_weights);
    EXPECT_EQ(received.num_recv_tokens_per_expert_list.value(), expected.num_recv_tokens_per_expert);
    ASSERT_TRUE(received.handle && received.handle->intra_handle && !received.handle->inter_handle);
    const DeepEPDispatchHandleIntra& handle = *received.handle->intra_handle;
    const ParityMatrices matrices = expected.handle.parity_matrices(12);  // half of 24, the default num_sms
    expect_same("rank_prefix_matrix", handle.rank_prefix_matrix.get(), matrices.rank_prefix_matrix);
    expect_same("channel_prefix_matrix", handle.channel_prefix_matrix.get(), matrices.channel_prefix_matrix);
    expect_same("recv_channel_prefix_matrix", handle.recv_channel_prefix_matrix.get(),
                matrices.recv_channel_prefix_matrix);
    expect_same("recv_src_idx", handle.recv_src_idx.get(), matrices.recv_src_idx);
    expect_same("is_token_in_rank", handle.is_token_in_rank.get(), matrices.is_token_in_rank);
    expect_same("send_head", handle.send_head.get(), matrices.send_head);
    EXPECT_EQ(handle.recv_src_idx.size(0), received.recv_x.size(0));
  }

  void check_cached(const DeepEPDispatchOutput& received) {
    const DeepEPDispatchOutput again =
        buffer_.dispatch(rows(), scales(), received.handle, std::nullopt, std::nullopt, std::nullopt, std::nullopt,
                         std::nullopt, std::nullopt, 1, config(), previous(), case_.async_finish, case_.on_comm_stream);
    finish(again.event_overlap);
    expect_same("cached recv_x", again.recv_x, borrow(received.recv_x));
    ASSERT_EQ(again.recv_x_scales.has_value(), case_.fp8);
    if (case_.fp8) expect_same("cached recv_x_scales", *again.recv_x_scales, borrow(*received.recv_x_scales));
    EXPECT_FALSE(again.recv_topk_idx || again.recv_topk_weights || again.num_recv_tokens_per_expert_list ||
                 again.handle);
  }

  void check_combine(const DeepEPDispatchOutput& received, const DispatchOutput& expected) {
    const at::Tensor y = (received.recv_x.to(at::kFloat) * 1.5).to(at::kBFloat16);
    const DeepEPCombineOutput combined = buffer_.combine(y, *received.handle, received.recv_topk_weights, config(),
                                                         previous(), case_.async_finish, case_.on_comm_stream);
    finish(combined.event_overlap);
    CombineInput input;
    input.x = borrow(y);
    input.handle = expected.handle;
    input.topk_weights = expected.recv_topk_weights;
    const CombineOutput wanted = buffer_.buffer().combine(input);
    expect_same("combined_x", combined.recv_x, wanted.combined_x);
    expect_same("combined_topk_weights", combined.recv_topk_weights, wanted.combined_topk_weights);
  }

  Case case_;
  DeepEPBuffer& buffer_;
  Tokens tokens_;
  DeepEPDispatchLayoutOutput layout_;
};

TEST(ThroughputTest, EveryCombinationEqualsTheLibrary) {
  for (const int num_ranks : {1, 2, 4}) {
    for (unsigned bits = 0; bits < 64; ++bits) {
      const auto bit = [&](unsigned i) { return ((bits >> i) & 1U) != 0; };
      const Case c{num_ranks, bit(0), bit(1), bit(2), bit(3), bit(4), bit(5)};
      if (c.on_comm_stream && !(c.async_finish && c.with_previous_event)) continue;  // is not allowed
      SCOPED_TRACE("ranks " + std::to_string(num_ranks) + ", case " + std::to_string(bits));
      run_ranks(num_ranks, [&](DeepEPBuffer& buffer, int rank) { ThroughputRun(buffer, rank, c).run(); });
    }
  }
}

TEST(ThroughputTest, RoundTripsOfManyRanks) {
  for (const int num_ranks : {3, 5, 8}) {
    run_ranks(num_ranks,
              [&](DeepEPBuffer& buffer, int rank) { expect_round_trip(buffer, make_tokens(rank, num_ranks)); });
  }
}

}  // namespace
}  // namespace crossdock::torch::testing
