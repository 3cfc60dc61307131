// Neither direction copies.
#include <gtest/gtest.h>

#include <memory>

#include "ranks.hpp"
#include "torch/src/arguments.hpp"
#include "torch/src/results.hpp"

namespace crossdock::torch::testing {
namespace {

TEST(ConversionTest, ArgumentIsTheSameMemoryAndIsKeptAlive) {
  Arguments arguments("dispatch", 0, at::kCPU);
  auto x = std::make_unique<at::Tensor>(at::arange(12, at::kFloat).view({3, 4}));
  const void* data = x->data_ptr();
  const Tensor view = arguments.take(*x, "x", {at::kFloat, {"tokens", 4}});
  EXPECT_EQ(view.data(), data);
  x.reset();
  EXPECT_EQ(view.data_as<float>()[11], 11.0F);
}

TEST(ConversionTest, ArgumentKeepsItsStrides) {
  Arguments arguments("dispatch", 0, at::kCPU);
  const at::Tensor transposed = at::zeros({4, 3}, at::kFloat).t();
  const Tensor view = arguments.take(transposed, "x_scales", {at::kFloat, {3, 4}, Layout::kAnyStrides});
  EXPECT_EQ(view.stride(0), 1);
  EXPECT_EQ(view.stride(1), 3);
}

TEST(ConversionTest, ResultIsTheSameMemoryAndOwnsIt) {
  auto owner = std::make_shared<std::vector<float>>(6, 2.0F);
  const std::weak_ptr<std::vector<float>> watch = owner;
  void* data = owner->data();
  Tensor tensor = Tensor::own(std::move(owner), data, DataType::kFloat32, std::array<std::int64_t, 2>{2, 3});
  at::Tensor result = to_torch(tensor);
  tensor = Tensor();
  EXPECT_EQ(result.data_ptr(), data);
  at::Tensor view = result.slice(0, 1);
  result.reset();
  EXPECT_FALSE(watch.expired()) << "a view needs the memory";
  view.reset();
  EXPECT_TRUE(watch.expired());
}

TEST(ConversionTest, ReceivedTensorsLieInTheArenaAndGiveTheirPlaceBack) {
  run_ranks(2, [](DeepEPBuffer& buffer, int rank) {
    const Tokens tokens = make_tokens(rank, 2);
    const std::size_t before = buffer.buffer().arena_bytes_free();
    auto received = std::make_optional(plain_dispatch(buffer, tokens));
    EXPECT_LE(buffer.buffer().arena_bytes_free() + received->recv_x.nbytes(), before);
    const DeepEPDispatchHandleIntra& handle = *received->handle->intra_handle;
    EXPECT_EQ(handle.recv_src_idx.get().data_ptr(), handle.core.recv_src_idx().data());
    at::Tensor y = buffer.combineInput(*received->handle, Tokens::kHidden);
    y.copy_(received->recv_x);
    const std::size_t with_all = buffer.buffer().arena_bytes_free();
    auto combined = std::make_optional(buffer.combine(y, *received->handle));
    EXPECT_EQ(buffer.buffer().arena_bytes_free(), with_all) << "the combine has staged its rows";
    combined.reset();
    y.reset();
    received.reset();
    EXPECT_EQ(buffer.buffer().arena_bytes_free(), before);
  });
}

}  // namespace
}  // namespace crossdock::torch::testing
