// The pair for decoding in every combination that the class allows, against the library's own class.
#include <gtest/gtest.h>

#include <string>

#include <crossdock/error.hpp>

#include "ranks.hpp"

namespace crossdock::torch::testing {
namespace {

struct Case {
  bool use_fp8 = true;
  bool async_finish = false;
  bool return_recv_hook = false;
};

template <class Output>
void finish(const Output& output, const Case& c) {
  ASSERT_EQ(output.event_overlap != nullptr, c.async_finish);
  ASSERT_EQ(output.hook.has_value(), c.return_recv_hook);
  if (c.async_finish) output.event_overlap->currentStreamWait();
  if (c.return_recv_hook) (*output.hook)();
}

/// Rows from an expert's count on are undefined, so only those before are looked at.
void expect_same_rows(const char* name, const at::Tensor& got, const at::Tensor& expected, const at::Tensor& counts) {
  ASSERT_EQ(got.sizes(), expected.sizes()) << name;
  ASSERT_EQ(got.strides(), expected.strides()) << name;
  for (std::int64_t expert = 0; expert < counts.size(0); ++expert) {
    const std::int64_t count = counts[expert].item<int>();
    const auto rows = [&](const at::Tensor& t) { return t[expert].slice(0, 0, count).to(at::kFloat); };
    EXPECT_TRUE(at::equal(rows(got), rows(expected))) << name << " of expert " << expert;
  }
}

void check(const DeepEPDispatchOutputLowLatency& got, const DeepEPDispatchOutputLowLatency& expected,
           const LowLatencyDispatchOutput& core) {
  expect_same("packed_recv_count", got.packed_recv_count, core.packed_recv_count);
  const at::Tensor& counts = got.packed_recv_count;
  expect_same_rows("packed_recv_x", got.packed_recv_x, expected.packed_recv_x, counts);
  ASSERT_EQ(got.packed_recv_x_scales.has_value(), expected.packed_recv_x_scales.has_value());
  if (got.packed_recv_x_scales) {
    expect_same_rows("packed_recv_x_scales", *got.packed_recv_x_scales, *expected.packed_recv_x_scales, counts);
  }
  expect_same("packed_recv_layout_range", got.handle.packed_recv_layout_range.get(),
              core.handle.packed_recv_layout_range());
  EXPECT_EQ(got.handle.packed_recv_src_info.get().data_ptr(), got.handle.core.packed_recv_src_info().data());
  EXPECT_EQ(got.handle.num_max_dispatch_tokens_per_rank, Tokens::kMostTokens);
}

/// What the library gives for the same tokens, in the adapter's form.
DeepEPDispatchOutputLowLatency to_adapter(DeepEPBuffer& buffer, const Tokens& tokens, bool use_fp8) {
  return buffer.lowLatencyDispatch(tokens.x, tokens.topk_idx, Tokens::kMostTokens, tokens.num_experts, use_fp8);
}

void run_case(DeepEPBuffer& buffer, const Tokens& tokens, const Case& c) {
  LowLatencyDispatchInput input;
  input.x = borrow(tokens.x);
  input.topk_idx = borrow(tokens.topk_idx);
  input.num_max_dispatch_tokens_per_rank = Tokens::kMostTokens;
  input.num_experts = tokens.num_experts;
  input.format = c.use_fp8 ? RowFormat::kFloat8 : RowFormat::kBfloat16;
  const LowLatencyDispatchOutput core = buffer.buffer().low_latency_dispatch(input);
  const auto synchronous = to_adapter(buffer, tokens, c.use_fp8);
  const auto got = buffer.lowLatencyDispatch(tokens.x, tokens.topk_idx, Tokens::kMostTokens, tokens.num_experts,
                                             c.use_fp8, c.async_finish, c.return_recv_hook);
  finish(got, c);
  EXPECT_EQ(got.packed_recv_x.scalar_type(), c.use_fp8 ? at::kFloat8_e4m3fn : at::kBFloat16);
  check(got, synchronous, core);

  const at::Tensor y = got.packed_recv_x.to(at::kFloat).nan_to_num().to(at::kBFloat16);
  const auto combined =
      buffer.lowLatencyCombine(y, tokens.topk_idx, tokens.topk_weights, got.handle, c.async_finish, c.return_recv_hook);
  finish(combined, c);
  LowLatencyCombineInput combine;
  combine.x = borrow(y);
  combine.topk_weights = borrow(tokens.topk_weights);
  combine.handle = core.handle;
  expect_same("combined_x", combined.combined_x, buffer.buffer().low_latency_combine(combine).combined_x);
  if (c.use_fp8) return;
  const at::Tensor factors = tokens.topk_weights.masked_fill(tokens.topk_idx < 0, 0).sum(1, true);
  EXPECT_TRUE(at::allclose(combined.combined_x.to(at::kFloat), tokens.x.to(at::kFloat) * factors, 0.01, 0.01));
}

TEST(LowLatencyTest, EveryCombinationEqualsTheLibrary) {
  if (const std::string why_not = why_no_low_latency(); !why_not.empty()) GTEST_SKIP() << why_not;
  for (const int num_ranks : {1, 2, 3}) {
    for (const bool use_fp8 : {false, true}) {
      for (const Case c : {Case{use_fp8}, Case{use_fp8, true}, Case{use_fp8, false, true}}) {
        SCOPED_TRACE("ranks " + std::to_string(num_ranks) + (use_fp8 ? ", fp8" : ", bfloat16") +
                     (c.async_finish ? ", async" : "") + (c.return_recv_hook ? ", hook" : ""));
        run_ranks(num_ranks,
                  [&](DeepEPBuffer& buffer, int rank) { run_case(buffer, make_tokens(rank, num_ranks), c); });
      }
    }
  }
}

TEST(LowLatencyTest, TwoMicroBatchesOverlapByHooks) {
  if (const std::string why_not = why_no_low_latency(); !why_not.empty()) GTEST_SKIP() << why_not;
  run_ranks(2, [](DeepEPBuffer& buffer, int rank) {
    const Tokens tokens = make_tokens(rank, 2);
    const auto send = [&] {
      return buffer.lowLatencyDispatch(tokens.x, tokens.topk_idx, Tokens::kMostTokens, tokens.num_experts, false, false,
                                       true);
    };
    const auto first = send();
    const auto second = send();
    (*first.hook)();
    const auto combine = [&](const DeepEPDispatchOutputLowLatency& received) {
      return buffer.lowLatencyCombine(received.packed_recv_x, tokens.topk_idx, tokens.topk_weights, received.handle,
                                      false, true);
    };
    const auto first_sum = combine(first);
    (*second.hook)();
    const auto second_sum = combine(second);
    (*first_sum.hook)();
    (*second_sum.hook)();
    EXPECT_TRUE(at::equal(first_sum.combined_x, second_sum.combined_x));
    EXPECT_THROW((*first_sum.hook)(), Error) << "a hook is called once";
  });
}

}  // namespace
}  // namespace crossdock::torch::testing
