// A group of ranks as threads, and what each of them sends.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>

#include <ATen/ATen.h>

#include <crossdock/torch/deep_ep_buffer.h>

namespace crossdock::torch::testing {

/// Where the tests' tensors are: the CPU, or what the program was given as --device=cuda:0. Ranks share it.
[[nodiscard]] at::Device test_device();
void set_test_device(at::Device device);
/// Waits for the current stream of the test device.
void synchronize();
/// Why the device has no low-latency mode, or empty.
[[nodiscard]] std::string why_no_low_latency();

/// Runs the body on each rank with a buffer of its own, and on a CUDA device on a stream of its own. Fails the test for
/// every exception.
void run_ranks(int num_ranks, const std::function<void(DeepEPBuffer& buffer, int rank)>& body);

/// The only rank of its group; not yet initialized.
[[nodiscard]] DeepEPBuffer single_rank_buffer();

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

/// A view of a torch tensor for the library itself, after what is queued on the current stream.
[[nodiscard]] Tensor borrow(const at::Tensor& tensor);
/// The same shape, dtype and bytes.
void expect_same(const char* name, const at::Tensor& got, const Tensor& expected);
void expect_same(const char* name, const std::optional<at::Tensor>& got, const std::optional<Tensor>& expected);

}  // namespace crossdock::torch::testing
