#include "ranks.hpp"

#include <cstring>
#include <exception>
#include <thread>
#include <vector>

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/Parallel.h>
#include <c10/core/impl/VirtualGuardImpl.h>
#include <gtest/gtest.h>

#include <crossdock/error.hpp>

#include "torch/src/arguments.hpp"
#include "torch/src/results.hpp"

namespace crossdock::torch::testing {

namespace {

at::Device& the_device() {
  static at::Device device = at::kCPU;
  return device;
}

void use_own_stream() {
  if (test_device().is_cpu()) return;
  const c10::impl::VirtualGuardImpl guard(test_device().type());
  guard.exchangeStream(guard.getStreamFromGlobalPool(test_device()));
}

}  // namespace

at::Device test_device() { return the_device(); }
void set_test_device(at::Device device) { the_device() = device; }

DeepEPBuffer single_rank_buffer() {
  return {make_in_process_bootstraps(1).front(), 0, 1, 0, 0, false, 1, test_device()};
}

std::string why_no_low_latency() {
  DeepEPBuffer buffer = single_rank_buffer();
  buffer.init();
  const Tokens tokens = make_tokens(0, 1);
  try {
    static_cast<void>(
        buffer.lowLatencyDispatch(tokens.x, tokens.topk_idx, Tokens::kMostTokens, tokens.num_experts, false));
  } catch (const Error& error) {
    if (error.code() == ErrorCode::kUnsupported) return error.what();
    throw;
  }
  return {};
}

void run_ranks(int num_ranks, const std::function<void(DeepEPBuffer& buffer, int rank)>& body) {
  at::set_num_threads(1);
  const auto bootstraps = make_in_process_bootstraps(num_ranks);
  std::vector<std::jthread> threads;
  for (int rank = 0; rank < num_ranks; ++rank) {
    threads.emplace_back([&, rank] {
      try {
        use_own_stream();
        const auto index = static_cast<std::size_t>(rank);
        DeepEPBuffer buffer(bootstraps[index], index, static_cast<std::size_t>(num_ranks), 0, 0, false, 1,
                            test_device());
        if (!buffer.init()) throw std::runtime_error("init() returned false");
        body(buffer, rank);
      } catch (const std::exception& error) {
        ADD_FAILURE() << "rank " << rank << " has thrown: " << error.what();
      }
    });
  }
}

Tokens make_tokens(int rank, int num_ranks) {
  auto generator = at::make_generator<at::CPUGeneratorImpl>(static_cast<std::uint64_t>(100 * num_ranks + rank));
  const std::int64_t count = num_ranks > 2 && rank == 1 ? 0 : Tokens::kMostTokens - rank;
  Tokens tokens;
  tokens.num_experts = Tokens::kExpertsPerRank * num_ranks;
  tokens.x = at::randn({count, Tokens::kHidden}, generator).to(at::kBFloat16);
  tokens.fp8 = tokens.x.to(at::kFloat8_e4m3fn);
  tokens.scales = at::rand({count, Tokens::kHidden / 128}, generator);
  // Distinct experts: low-latency mode has room for one row of a token at an expert.
  tokens.topk_idx =
      at::rand({count, tokens.num_experts}, generator).argsort(std::int64_t{1}).slice(1, 0, Tokens::kTopK).contiguous();
  tokens.topk_idx.masked_fill_(at::rand({count, Tokens::kTopK}, generator) < 0.15, -1);
  tokens.topk_weights = at::rand({count, Tokens::kTopK}, generator);
  for (at::Tensor* tensor : {&tokens.x, &tokens.fp8, &tokens.scales, &tokens.topk_idx, &tokens.topk_weights}) {
    *tensor = tensor->to(test_device());
  }
  return tokens;
}

DeepEPDispatchOutput plain_dispatch(DeepEPBuffer& buffer, const Tokens& tokens) {
  const auto layout = buffer.getDispatchLayout(tokens.topk_idx, tokens.num_experts);
  return buffer.dispatch(tokens.x, std::nullopt, std::nullopt, layout.num_tokens_per_rank,
                         layout.num_tokens_per_rdma_rank, layout.is_token_in_rank, layout.num_tokens_per_expert,
                         tokens.topk_idx, tokens.topk_weights);
}

void expect_round_trip(DeepEPBuffer& buffer, const Tokens& tokens) {
  const auto received = plain_dispatch(buffer, tokens);
  const auto combined = buffer.combine(received.recv_x, *received.handle, received.recv_topk_weights);
  const auto in_rank = buffer.getDispatchLayout(tokens.topk_idx, tokens.num_experts).is_token_in_rank;
  const at::Tensor expected = (tokens.x.to(at::kFloat) * in_rank.sum(1, true)).to(at::kBFloat16);
  EXPECT_TRUE(at::equal(combined.recv_x, expected));
  EXPECT_TRUE(at::equal(*combined.recv_topk_weights, tokens.topk_weights.masked_fill(tokens.topk_idx < 0, 0)));
}

void synchronize() {
  const at::Device device = test_device();
  if (!device.is_cpu()) c10::impl::VirtualGuardImpl(device.type()).getStream(device).synchronize();
}

Tensor borrow(const at::Tensor& tensor) {
  if (!tensor.is_cpu()) synchronize();
  return Tensor::borrow(tensor.data_ptr(), *to_core(tensor.scalar_type()),
                        std::span(tensor.sizes().data(), tensor.sizes().size()), to_core(tensor.device()));
}

void expect_same(const char* name, const at::Tensor& got, const Tensor& expected) {
  const at::Tensor wanted = to_torch(expected);
  ASSERT_TRUE(got.defined()) << name;
  EXPECT_EQ(got.scalar_type(), wanted.scalar_type()) << name;
  EXPECT_EQ(got.strides(), wanted.strides()) << name;
  ASSERT_EQ(got.sizes(), wanted.sizes()) << name;
  EXPECT_EQ(got.device(), test_device()) << name;
  const at::Tensor left = got.cpu().contiguous();
  const at::Tensor right = wanted.cpu().contiguous();
  if (left.numel() == 0) return;
  EXPECT_EQ(std::memcmp(left.data_ptr(), right.data_ptr(), left.nbytes()), 0) << name;
}

void expect_same(const char* name, const std::optional<at::Tensor>& got, const std::optional<Tensor>& expected) {
  ASSERT_EQ(got.has_value(), expected.has_value()) << name;
  if (got) expect_same(name, *got, *expected);
}

}  // namespace crossdock::torch::testing
