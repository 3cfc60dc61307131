// One layer of a trained mixture-of-experts model on torch tensors, as a serving engine in C++ runs it.
//
// moe_layer data/moe_layer.safetensors [ranks]
//
// Ranks are threads. Each has its share of the recorded tokens and of the experts, which are torch's matrix products.
// The layer runs twice: once as in prefill (throughput mode), once as in decoding (low-latency mode, two micro-batches
// whose transfers overlap the other's work by hooks). Both outputs are compared with the recorded one.
#include <algorithm>
#include <array>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <span>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <crossdock/torch/deep_ep_buffer.h>

#include "recording.hpp"

namespace {

using crossdock::torch::DeepEPBuffer;
using crossdock::torch::DeepEPDispatchOutputLowLatency;
using example::Recording;
using example::Tokens;

constexpr int kMostRanks = 16;

/// The experts of one rank.
struct Experts {
  at::Tensor w_gate, w_up, w_down;

  [[nodiscard]] at::Tensor operator()(std::int64_t expert, const at::Tensor& rows) const {
    const at::Tensor x = rows.to(at::kFloat);
    const auto product = [&](const at::Tensor& left, const at::Tensor& w) {
      return at::matmul(left, w[expert].to(at::kFloat).t());
    };
    return product(at::silu(product(x, w_gate)) * product(x, w_up), w_down);
  }
};

/// Throughput mode: a row for each rank that a token goes to; the experts apply the weights.
at::Tensor prefill(DeepEPBuffer& buffer, const Tokens& tokens, const Experts& experts) {
  const auto layout =
      buffer.getDispatchLayout(tokens.topk_idx, Recording::kExperts, buffer.capture(), /*async=*/true, true);
  const auto received =
      buffer.dispatch(tokens.x, std::nullopt, std::nullopt, layout.num_tokens_per_rank, layout.num_tokens_per_rdma_rank,
                      layout.is_token_in_rank, layout.num_tokens_per_expert, tokens.topk_idx, tokens.topk_weights, 1,
                      std::nullopt, layout.event_overlap, true, true);
  received.event_overlap->currentStreamWait();
  const at::Tensor y = at::zeros(received.recv_x.sizes(), at::kFloat);
  const auto num_local_experts = static_cast<std::int64_t>(received.num_recv_tokens_per_expert_list->size());
  for (std::int64_t expert = 0; expert < num_local_experts; ++expert) {
    const std::vector<at::Tensor> chosen = at::where(*received.recv_topk_idx == expert);
    const at::Tensor weights = received.recv_topk_weights->index({chosen[0], chosen[1]}).unsqueeze(1);
    y.index_add_(0, chosen[0], experts(expert, received.recv_x.index_select(0, chosen[0])) * weights);
  }
  const at::Tensor rows = buffer.combineInput(*received.handle, Recording::kHidden);
  rows.copy_(y);
  const auto combined = buffer.combine(rows, *received.handle, std::nullopt, std::nullopt, nullptr, true);
  combined.event_overlap->currentStreamWait();
  return combined.recv_x;
}

/// The experts' answers to what was received, up to each expert's count; combine does not look at the other rows.
at::Tensor answer(const DeepEPDispatchOutputLowLatency& received, const Experts& experts) {
  const at::Tensor y = at::zeros_like(received.packed_recv_x);
  for (std::int64_t expert = 0; expert < y.size(0); ++expert) {
    const std::int64_t count = received.packed_recv_count[expert].item<int>();
    y[expert].slice(0, 0, count).copy_(experts(expert, received.packed_recv_x[expert].slice(0, 0, count)));
  }
  return y;
}

/// Low-latency mode: a row for each token and expert; combine applies the weights. Both micro-batches are sent before
/// anything is received, and the first one's answers travel while the second one's experts work.
std::array<at::Tensor, 2> decode(DeepEPBuffer& buffer, const std::array<Tokens, 2>& batches, int most,
                                 const Experts& experts) {
  const auto send = [&](const Tokens& tokens) {
    return buffer.lowLatencyDispatch(tokens.x, tokens.topk_idx, most, Recording::kExperts, /*use_fp8=*/false, false,
                                     /*return_recv_hook=*/true);
  };
  const auto give_back = [&](const DeepEPDispatchOutputLowLatency& received, const Tokens& tokens) {
    (*received.hook)();
    return buffer.lowLatencyCombine(answer(received, experts), tokens.topk_idx, tokens.topk_weights, received.handle,
                                    false, /*return_recv_hook=*/true);
  };
  const auto first = send(batches[0]);
  const auto second = send(batches[1]);
  const auto first_sum = give_back(first, batches[0]);
  const auto second_sum = give_back(second, batches[1]);
  (*first_sum.hook)();
  (*second_sum.hook)();
  return {first_sum.combined_x, second_sum.combined_x};
}

/// bfloat16 has 8 bits, and each token is the sum of up to 8 rounded rows: 1/128 of the largest output is allowed.
std::string check(const char* name, const at::Tensor& output, const at::Tensor& expected) {
  const double error = ((output.to(at::kFloat) - expected).abs().max() / expected.abs().max()).template item<double>();
  const std::string text = std::string(name) + " " + std::to_string(error);
  if (!(error <= 1.0 / 128)) throw std::runtime_error("the largest error is too large: " + text);
  return text;
}

void run_rank(const std::shared_ptr<crossdock::Bootstrap>& bootstrap, const Recording& recording) {
  const int rank = bootstrap->rank();
  const int size = bootstrap->size();
  const auto share = [&](const at::Tensor& whole) { return whole.tensor_split(size)[static_cast<std::size_t>(rank)]; };
  const Tokens tokens = recording.tokens.map(share);
  const Experts experts{share(recording.w_gate), share(recording.w_up), share(recording.w_down)};
  const std::array<Tokens, 2> halves = tokens.halves();
  // The share of a rank may have one token more than that of another, and so may a half.
  const int most = static_cast<int>(Recording::kTokens) / size / 2 + 1;

  constexpr std::int64_t kThroughputBytes = std::int64_t{16} << 20U;
  const std::size_t bytes =
      DeepEPBuffer::getLowLatencyRdmaSizeHint(most, Recording::kHidden, size, Recording::kExperts);
  DeepEPBuffer buffer(bootstrap, static_cast<std::size_t>(rank), static_cast<std::size_t>(size), kThroughputBytes,
                      static_cast<std::int64_t>(bytes), /*low_latency_mode=*/true);
  buffer.init();
  const std::string prefilled = check("prefill", prefill(buffer, tokens, experts), tokens.y);
  const std::array<at::Tensor, 2> decoded = decode(buffer, halves, most, experts);
  std::printf("rank %d passed: largest errors %s, %s, %s\n", rank, prefilled.c_str(),
              check("decode 0", decoded[0], halves[0].y).c_str(), check("decode 1", decoded[1], halves[1].y).c_str());
}

/// Whether all ranks passed.
bool run(const std::string& file, int size) {
  at::set_num_threads(1);
  const Recording recording(file);
  std::atomic<bool> all_passed = true;
  {
    std::vector<std::jthread> ranks;
    for (const auto& bootstrap : crossdock::make_in_process_bootstraps(size)) {
      ranks.emplace_back([&, bootstrap] {
        try {
          run_rank(bootstrap, recording);
        } catch (const std::exception& error) {
          std::fprintf(stderr, "rank %d: %s\n", bootstrap->rank(), error.what());
          all_passed = false;
        }
      });
    }
  }
  return all_passed;
}

}  // namespace

int main(int argc, char** argv) {
  const std::span<char*> arguments(argv, static_cast<std::size_t>(argc));
  const int size = argc > 2 ? std::atoi(arguments[2]) : 4;
  if (argc < 2 || argc > 3 || size < 1 || size > kMostRanks) {
    std::fprintf(stderr, "moe_layer data/moe_layer.safetensors [ranks, 1 to %d]\n", kMostRanks);
    return EXIT_FAILURE;
  }
  try {
    return run(arguments[1], size) ? EXIT_SUCCESS : EXIT_FAILURE;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return EXIT_FAILURE;
  }
}
