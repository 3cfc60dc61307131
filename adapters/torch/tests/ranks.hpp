// A group of ranks as threads, and what each of them sends.
#pragma once

#include <functional>
#include <memory>
#include <optional>

#include <ATen/ATen.h>

#include <crossdock/torch/deep_ep_buffer.h>

namespace crossdock::torch::testing {

/// Runs the body on each rank with a buffer of its own, and fails the test for every exception.
void run_ranks(int num_ranks, const std::function<void(DeepEPBuffer& buffer, int rank)>& body);

/// The tokens of one rank. Ids have -1; rank 1 of more than two has no tokens.
struct Tokens {
  static constexpr std::int64_t kHidden = 256, kTopK = 3;
  static constexpr int kExpertsPerRank = 4, kMostTokens = 12;
  at::Tensor x;             ///< bfloat16
  at::Tensor fp8;           ///< float8_e4m3fn
  at::Tensor scales;        ///< float32 [tokens, 2]
  at::Tensor topk_idx;      ///< int64
  at::Tensor topk_weights;  ///< float32
  int num_experts = 0;
};
[[nodiscard]] Tokens make_tokens(int rank, int num_ranks);

/// A dispatch of bfloat16 rows with top-k, synchronous, as engines call it.
[[nodiscard]] DeepEPDispatchOutput plain_dispatch(DeepEPBuffer& buffer, const Tokens& tokens);
/// Fails unless a dispatch and a combine of what was received give each token times the number of its ranks.
void expect_round_trip(DeepEPBuffer& buffer, const Tokens& tokens);

/// A view of a torch tensor for the library itself.
[[nodiscard]] Tensor borrow(const at::Tensor& tensor);
/// The same shape, dtype and bytes.
void expect_same(const char* name, const at::Tensor& got, const Tensor& expected);
void expect_same(const char* name, const std::optional<at::Tensor>& got, const std::optional<Tensor>& expected);

}  // namespace crossdock::torch::testing
