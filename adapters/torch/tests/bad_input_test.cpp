// A bad argument is named, with what it was and what is allowed, on the rank that gave it and on the others; and the
// buffer goes on.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <string>
#include <vector>

#include <crossdock/error.hpp>

#include "ranks.hpp"

namespace crossdock::torch::testing {
namespace {

constexpr int kBadRank = 1;

at::Tensor on_meta(const at::Tensor& tensor) { return at::empty_like(tensor, tensor.options().device(at::kMeta)); }

/// The texts name the CPU where the device of the test is meant.
std::vector<std::string> on_test_device(std::vector<std::string> texts) {
  for (std::string& text : texts) {
    if (const auto place = text.find("on cpu"); place != std::string::npos) {
      text.replace(place, 6, "on " + test_device().str());
    }
  }
  return texts;
}

/// `call` is made by two ranks, of which one is told to be bad.
void expect_refusal(const std::vector<std::string>& texts,
                    const std::function<void(DeepEPBuffer&, const Tokens&, bool is_bad)>& call,
                    bool is_low_latency = false) {
  SCOPED_TRACE(texts.front());
  run_ranks(2, [&](DeepEPBuffer& buffer, int rank) {
    const Tokens tokens = make_tokens(rank, 2);
    const std::size_t bytes_free = buffer.buffer().arena_bytes_free();
    try {
      call(buffer, tokens, rank == kBadRank);
      // Of low-latency operations on a device a later call throws, which is none then.
      if (is_low_latency && test_device().is_cuda()) {
        synchronize();
        call(buffer, tokens, false);
      }
      ADD_FAILURE() << "rank " << rank << " has thrown nothing";
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kInvalidArgument) << error.what();
      EXPECT_EQ(error.rank(), kBadRank) << error.what();
      for (const std::string& text : on_test_device(texts)) EXPECT_THAT(error.what(), ::testing::HasSubstr(text));
    }
    // A low-latency combine's staged rows stay until later operations show that nobody reads them.
    for (int i = 0; i < 3; ++i) expect_round_trip(buffer, tokens);
    EXPECT_EQ(buffer.buffer().arena_bytes_free(), bytes_free);
  });
}

/// The arguments of a dispatch, all of them good.
struct DispatchArguments {
  at::Tensor x;
  std::optional<at::Tensor> x_scales, per_rank, per_rdma_rank, in_rank, per_expert, topk_idx, topk_weights;
  int expert_alignment = 1;
  std::optional<Config> config;
  bool allocate_on_comm_stream = false;
};

using Spoil = std::function<void(DispatchArguments&)>;

void expect_bad_dispatch(const std::vector<std::string>& texts, bool fp8, const Spoil& spoil) {
  expect_refusal(texts, [&](DeepEPBuffer& buffer, const Tokens& tokens, bool is_bad) {
    const auto layout = buffer.getDispatchLayout(tokens.topk_idx, tokens.num_experts);
    DispatchArguments a{tokens.x,
                        std::nullopt,
                        layout.num_tokens_per_rank,
                        std::nullopt,
                        layout.is_token_in_rank,
                        layout.num_tokens_per_expert,
                        tokens.topk_idx,
                        tokens.topk_weights,
                        1,
                        std::nullopt,
                        false};
    if (fp8) {
      a.x = tokens.fp8;
      a.x_scales = tokens.scales;
    }
    if (is_bad) spoil(a);
    static_cast<void>(buffer.dispatch(a.x, a.x_scales, std::nullopt, a.per_rank, a.per_rdma_rank, a.in_rank,
                                      a.per_expert, a.topk_idx, a.topk_weights, a.expert_alignment, a.config, nullptr,
                                      false, a.allocate_on_comm_stream));
  });
}

TEST(BadInputTest, RowsOfDispatch) {
  const auto bad = [](const std::vector<std::string>& texts, const Spoil& spoil) {
    expect_bad_dispatch(texts, false, spoil);
  };
  bad({"dispatch: x is Float [11, 256] on cpu", "BFloat16 [tokens, hidden] on cpu is allowed"},
      [](auto& a) { a.x = a.x.to(at::kFloat); });
  bad({"x is Double", "BFloat16"}, [](auto& a) { a.x = a.x.to(at::kDouble); });
  bad({"x is BFloat16 [2816]", "[tokens, hidden]"}, [](auto& a) { a.x = a.x.flatten(); });
  bad({"x is BFloat16 [11, 256] on meta", "on cpu is allowed"}, [](auto& a) { a.x = on_meta(a.x); });
  bad({"x has strides", "contiguous rows are allowed"}, [](auto& a) { a.x = a.x.t().contiguous().t(); });
  bad({"x is undefined", "is allowed"}, [](auto& a) { a.x = at::Tensor(); });
  bad({"x is Float8_e4m3fn", "BFloat16"}, [](auto& a) { a.x = a.x.to(at::kFloat8_e4m3fn); });
}

TEST(BadInputTest, ScalesOfDispatch) {
  const auto bad = [](const std::vector<std::string>& texts, const Spoil& spoil) {
    expect_bad_dispatch(texts, true, spoil);
  };
  bad({"x is BFloat16", "Float8_e4m3fn"}, [](auto& a) { a.x = a.x.to(at::kBFloat16); });
  bad({"x_scales is Double", "Float [11, 2] on cpu is allowed"},
      [](auto& a) { a.x_scales = a.x_scales->to(at::kDouble); });
  bad({"x_scales is Float [11, 1]", "[11, 2]"}, [](auto& a) { a.x_scales = a.x_scales->slice(1, 0, 1); });
  bad({"x_scales is Float [10, 2]", "[11, 2]"}, [](auto& a) { a.x_scales = a.x_scales->slice(0, 1); });
  bad({"x_scales is Float [11, 2] on meta", "on cpu"}, [](auto& a) { a.x_scales = on_meta(*a.x_scales); });
  bad({"x has 200 channels", "multiple of 128"}, [](auto& a) { a.x = a.x.slice(1, 0, 200).contiguous(); });
}

TEST(BadInputTest, LayoutOfDispatch) {
  const auto bad = [](const std::vector<std::string>& texts, const Spoil& spoil) {
    expect_bad_dispatch(texts, false, spoil);
  };
  bad({"num_tokens_per_rank is Long [2]", "Int [2]"}, [](auto& a) { a.per_rank = a.per_rank->to(at::kLong); });
  bad({"num_tokens_per_rank is Int [1]", "Int [2]"}, [](auto& a) { a.per_rank = a.per_rank->slice(0, 1); });
  bad({"num_tokens_per_rdma_rank is Long [1]", "Int [nodes]"},
      [](auto& a) { a.per_rdma_rank = at::zeros({1}, at::kLong); });
  bad({"is_token_in_rank is Int [11, 2]", "Bool [11, 2]"}, [](auto& a) { a.in_rank = a.in_rank->to(at::kInt); });
  bad({"is_token_in_rank has strides", "contiguous"}, [](auto& a) { a.in_rank = a.in_rank->t().contiguous().t(); });
  bad({"num_tokens_per_expert is Long [8]", "Int [experts]"},
      [](auto& a) { a.per_expert = a.per_expert->to(at::kLong); });
  bad({"num_tokens_per_rank, num_tokens_per_expert and is_token_in_rank must be given"},
      [](auto& a) { a.in_rank.reset(); });
}

TEST(BadInputTest, TopKOfDispatch) {
  const auto bad = [](const std::vector<std::string>& texts, const Spoil& spoil) {
    expect_bad_dispatch(texts, false, spoil);
  };
  bad({"topk_idx is Int [11, 3]", "Long [11, top-k]"}, [](auto& a) { a.topk_idx = a.topk_idx->to(at::kInt); });
  bad({"topk_idx is Long [33]"}, [](auto& a) { a.topk_idx = a.topk_idx->flatten(); });
  bad({"topk_idx is Long [10, 3]", "[11, top-k]"}, [](auto& a) { a.topk_idx = a.topk_idx->slice(0, 1); });
  bad({"topk_idx has strides", "contiguous"}, [](auto& a) { a.topk_idx = a.topk_idx->t().contiguous().t(); });
  bad({"topk_idx[0][0] is 99", "0 to 7"}, [](auto& a) { a.topk_idx = at::full_like(*a.topk_idx, 99); });
  bad({"topk_weights is Double [11, 3]", "Float [11, 3]"},
      [](auto& a) { a.topk_weights = a.topk_weights->to(at::kDouble); });
  bad({"topk_weights is Float [11, 2]", "[11, 3]"},
      [](auto& a) { a.topk_weights = a.topk_weights->slice(1, 1).contiguous(); });
  bad({"topk_weights absent", "both or neither"}, [](auto& a) { a.topk_weights.reset(); });
  bad({"expert_alignment is 0", "at least 1"}, [](auto& a) { a.expert_alignment = 0; });
  bad({"num_sms"}, [](auto& a) { a.config = Config{3, 6, 256, 6, 128}; });
  bad({"allocate_on_comm_stream needs async_finish"}, [](auto& a) { a.allocate_on_comm_stream = true; });
}

TEST(BadInputTest, Combine) {
  using SpoilCombine = std::function<void(at::Tensor & x, DeepEPDispatchHandle & handle, at::Tensor & weights)>;
  const auto bad = [](const std::vector<std::string>& texts, const SpoilCombine& spoil) {
    expect_refusal(texts, [&](DeepEPBuffer& buffer, const Tokens& tokens, bool is_bad) {
      const auto received = plain_dispatch(buffer, tokens);
      at::Tensor x = received.recv_x;
      DeepEPDispatchHandle handle = *received.handle;
      at::Tensor weights = *received.recv_topk_weights;
      if (is_bad) spoil(x, handle, weights);
      static_cast<void>(buffer.combine(x, handle, weights));
    });
  };
  bad({"combine: x is Float", "BFloat16"}, [](auto& x, auto&, auto&) { x = x.to(at::kFloat); });
  bad({"x is BFloat16", "on meta", "on cpu"}, [](auto& x, auto&, auto&) { x = on_meta(x); });
  bad({"x has strides"}, [](auto& x, auto&, auto&) { x = x.t().contiguous().t(); });
  bad({"topk_weights is Double", "Float"}, [](auto&, auto&, auto& w) { w = w.to(at::kDouble); });
  bad({"topk_weights is Float", "is allowed"}, [](auto&, auto&, auto& w) { w = w.slice(0, 1); });
  bad({"handle is empty"}, [](auto&, auto& handle, auto&) { handle = {}; });
}

TEST(BadInputTest, LowLatencyDispatch) {
  if (const std::string why_not = why_no_low_latency(); !why_not.empty()) GTEST_SKIP() << why_not;
  struct Call {
    at::Tensor x, topk_idx;
    int most = Tokens::kMostTokens;
    int num_experts = 8;
    bool async_finish = false, return_recv_hook = false;
  };
  const auto bad = [](const std::vector<std::string>& texts, const std::function<void(Call&)>& spoil) {
    const auto call = [&](DeepEPBuffer& buffer, const Tokens& tokens, bool is_bad) {
      Call c{tokens.x, tokens.topk_idx};
      if (is_bad) spoil(c);
      static_cast<void>(
          buffer.lowLatencyDispatch(c.x, c.topk_idx, c.most, c.num_experts, true, c.async_finish, c.return_recv_hook));
    };
    expect_refusal(texts, call, true);
  };
  bad({"lowLatencyDispatch: x is Float", "BFloat16"}, [](auto& c) { c.x = c.x.to(at::kFloat); });
  bad({"x is BFloat16", "on meta"}, [](auto& c) { c.x = on_meta(c.x); });
  bad({"x has 11 tokens", "num_max_dispatch_tokens_per_rank is 10"}, [](auto& c) { c.most = 10; });
  bad({"topk_idx is Int", "Long [11, top-k]"}, [](auto& c) { c.topk_idx = c.topk_idx.to(at::kInt); });
  bad({"topk_idx is Long [10, 3]", "[11, top-k]"}, [](auto& c) { c.topk_idx = c.topk_idx.slice(0, 1); });
  bad({"num_experts is 0"}, [](auto& c) { c.num_experts = 0; });
  bad({"async_finish and return_recv_hook exclude each other"},
      [](auto& c) { c.async_finish = c.return_recv_hook = true; });
}

TEST(BadInputTest, LowLatencyCombine) {
  if (const std::string why_not = why_no_low_latency(); !why_not.empty()) GTEST_SKIP() << why_not;
  struct Call {
    at::Tensor x, topk_idx, topk_weights;
    DeepEPDispatchHandleLowLatency handle;
    bool async_finish = false, return_recv_hook = false;
  };
  const auto bad = [](const std::vector<std::string>& texts, const std::function<void(Call&)>& spoil) {
    const auto call = [&](DeepEPBuffer& buffer, const Tokens& tokens, bool is_bad) {
      const auto received =
          buffer.lowLatencyDispatch(tokens.x, tokens.topk_idx, Tokens::kMostTokens, tokens.num_experts, false);
      Call c{at::zeros_like(received.packed_recv_x), tokens.topk_idx, tokens.topk_weights, received.handle};
      if (is_bad) spoil(c);
      static_cast<void>(
          buffer.lowLatencyCombine(c.x, c.topk_idx, c.topk_weights, c.handle, c.async_finish, c.return_recv_hook));
    };
    expect_refusal(texts, call, true);
  };
  bad({"lowLatencyCombine: x is Float", "BFloat16"}, [](auto& c) { c.x = c.x.to(at::kFloat); });
  bad({"x is BFloat16 [4, 24]", "hidden"}, [](auto& c) { c.x = c.x.select(2, 0).contiguous(); });
  bad({"x has strides", "a contiguous tensor is allowed"},
      [](auto& c) { c.x = c.x.transpose(1, 2).contiguous().transpose(1, 2); });
  bad({"topk_idx is Int"}, [](auto& c) { c.topk_idx = c.topk_idx.to(at::kInt); });
  bad({"topk_idx has other ids"}, [](auto& c) { c.topk_idx = at::zeros_like(c.topk_idx); });
  bad({"topk_weights is Double"}, [](auto& c) { c.topk_weights = c.topk_weights.to(at::kDouble); });
  bad({"topk_weights is Float [10, 3]", "[11, top-k]"}, [](auto& c) { c.topk_weights = c.topk_weights.slice(0, 1); });
  bad({"handle is empty"}, [](auto& c) { c.handle = {}; });
  bad({"exclude each other"}, [](auto& c) { c.async_finish = c.return_recv_hook = true; });
}

TEST(BadInputTest, LayoutIsLocal) {
  run_ranks(1, [](DeepEPBuffer& buffer, int) {
    const auto message = [&](const at::Tensor& ids, int num_experts) {
      try {
        static_cast<void>(buffer.getDispatchLayout(ids, num_experts));
      } catch (const Error& error) {
        return std::string(error.what());
      }
      return std::string();
    };
    const auto zeros = [](at::IntArrayRef shape, at::ScalarType dtype) {
      return at::zeros(shape, at::TensorOptions(dtype).device(test_device()));
    };
    EXPECT_THAT(message(zeros({2, 3}, at::kInt), 4), ::testing::HasSubstr("topk_idx is Int [2, 3]"));
    EXPECT_THAT(message(zeros({2}, at::kLong), 4), ::testing::HasSubstr("[tokens, top-k]"));
    EXPECT_THAT(message(zeros({2, 3}, at::kLong), 0), ::testing::HasSubstr("num_experts is 0"));
  });
}

}  // namespace
}  // namespace crossdock::torch::testing
