// What was wrong with the class in rtp-llm, a test for each. docs/migrating-from-rtp-llm.md lists them.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <unistd.h>

#include <atomic>
#include <chrono>
#include <latch>
#include <string>
#include <type_traits>
#include <vector>

#include <ATen/ops/from_blob.h>

#include <crossdock/error.hpp>

#include "ranks.hpp"

namespace crossdock::torch::testing {
namespace {

template <class Call>
std::string message_of(Call call) {
  try {
    call();
  } catch (const Error& error) {
    return error.what();
  }
  return "nothing was thrown";
}

DeepEPDispatchOutput cached_dispatch(DeepEPBuffer& buffer, const Tokens& tokens, const DeepEPDispatchHandle& handle) {
  return buffer.dispatch(tokens.x, std::nullopt, handle);
}

std::vector<std::string> environment() {
  std::vector<std::string> variables;
  for (char** variable = environ; *variable != nullptr; ++variable) variables.emplace_back(*variable);
  return variables;
}

TEST(DefectsTest, CachedDispatchNeedsNoTopK) {
  run_ranks(2, [](DeepEPBuffer& buffer, int rank) {
    const Tokens tokens = make_tokens(rank, 2);
    const auto received = plain_dispatch(buffer, tokens);
    EXPECT_TRUE(at::equal(cached_dispatch(buffer, tokens, *received.handle).recv_x, received.recv_x));
  });
}

TEST(DefectsTest, CachedDispatchIgnoresTopKAsItsCallersGiveIt) {
  run_ranks(2, [](DeepEPBuffer& buffer, int rank) {
    const Tokens tokens = make_tokens(rank, 2);
    const auto received = plain_dispatch(buffer, tokens);
    const auto again = buffer.dispatch(tokens.x, std::nullopt, received.handle, std::nullopt, std::nullopt,
                                       std::nullopt, std::nullopt, tokens.topk_idx, tokens.topk_weights);
    EXPECT_TRUE(at::equal(again.recv_x, received.recv_x));
    EXPECT_FALSE(again.recv_topk_idx.has_value());
  });
}

TEST(DefectsTest, CountsPerRankAreCheckedThemselves) {
  run_ranks(1, [](DeepEPBuffer& buffer, int) {
    const Tokens tokens = make_tokens(0, 1);
    const auto layout = buffer.getDispatchLayout(tokens.topk_idx, tokens.num_experts);
    const auto dispatch = [&](const at::Tensor& per_rank, const std::optional<at::Tensor>& per_expert) {
      return message_of([&] {
        static_cast<void>(buffer.dispatch(tokens.x, std::nullopt, std::nullopt, per_rank, std::nullopt,
                                          layout.is_token_in_rank, per_expert));
      });
    };
    EXPECT_THAT(dispatch(layout.num_tokens_per_rank.to(at::kLong), layout.num_tokens_per_expert),
                ::testing::HasSubstr("num_tokens_per_rank is Long"));
    EXPECT_THAT(dispatch(layout.num_tokens_per_rank, std::nullopt), ::testing::HasSubstr("must be given"));
  });
}

TEST(DefectsTest, HandleOfTheWrongKindIsRefused) {
  run_ranks(2, [](DeepEPBuffer& buffer, int rank) {
    const Tokens tokens = make_tokens(rank, 2);
    const auto received = plain_dispatch(buffer, tokens);
    DeepEPDispatchHandle wrong;
    wrong.inter_handle.emplace();
    const auto mentions_kind = ::testing::HasSubstr("inter_handle");
    const std::string cached = message_of([&] { static_cast<void>(cached_dispatch(buffer, tokens, wrong)); });
    const std::string combined = message_of([&] { static_cast<void>(buffer.combine(received.recv_x, wrong)); });
    EXPECT_THAT(cached, mentions_kind);
    EXPECT_THAT(combined, mentions_kind);
    expect_round_trip(buffer, tokens);
  });
  static_assert(!std::is_convertible_v<DeepEPDispatchHandleLowLatency, DeepEPDispatchHandle>);
  static_assert(!std::is_convertible_v<DeepEPDispatchHandle, DeepEPDispatchHandleLowLatency>);
}

TEST(DefectsTest, HandleOfAnotherBufferIsRefused) {
  run_ranks(1, [](DeepEPBuffer& buffer, int) {
    const Tokens tokens = make_tokens(0, 1);
    DeepEPBuffer other = single_rank_buffer();
    other.init();
    const auto received = plain_dispatch(other, tokens);
    EXPECT_THAT(message_of([&] { static_cast<void>(buffer.combine(received.recv_x, *received.handle)); }),
                ::testing::HasSubstr("another buffer"));
  });
}

TEST(DefectsTest, RowsOfCombineAreCounted) {
  run_ranks(1, [](DeepEPBuffer& buffer, int) {
    const auto received = plain_dispatch(buffer, make_tokens(0, 1));
    EXPECT_THAT(message_of([&] { static_cast<void>(buffer.combine(received.recv_x.slice(0, 1), *received.handle)); }),
                ::testing::HasSubstr("x is BFloat16"));
  });
}

TEST(DefectsTest, EnvironmentIsNotWritten) {
  const std::vector<std::string> before = environment();
  run_ranks(2, [](DeepEPBuffer& buffer, int rank) { expect_round_trip(buffer, make_tokens(rank, 2)); });
  EXPECT_EQ(environment(), before);
}

TEST(DefectsTest, AvailabilityIsCheckedAndInitMayBeRepeated) {
  DeepEPBuffer buffer = single_rank_buffer();
  const Tokens tokens = make_tokens(0, 1);
  EXPECT_FALSE(buffer.isAvailable());
  EXPECT_THAT(message_of([&] { static_cast<void>(plain_dispatch(buffer, tokens)); }),
              ::testing::HasSubstr("init() must be called"));
  EXPECT_TRUE(buffer.init());
  const Buffer* first = &buffer.buffer();
  const auto received = plain_dispatch(buffer, tokens);
  EXPECT_TRUE(buffer.init());
  EXPECT_EQ(&buffer.buffer(), first);
  static_cast<void>(buffer.combine(received.recv_x, *received.handle));  // the handle is still of this buffer
  buffer.destroy();
  buffer.destroy();
  EXPECT_FALSE(buffer.isAvailable());
  EXPECT_TRUE(buffer.init());
  expect_round_trip(buffer, tokens);
}

TEST(DefectsTest, EmptyTensorIsTopKOfNoTokens) {
  run_ranks(3, [](DeepEPBuffer& buffer, int rank) {
    const Tokens tokens = make_tokens(rank, 3);
    if (rank == 1) {
      ASSERT_EQ(tokens.topk_idx.size(0), 0);
    }
    const auto received = plain_dispatch(buffer, tokens);
    ASSERT_TRUE(received.recv_topk_idx && received.recv_topk_weights);
    EXPECT_EQ(received.recv_topk_idx->size(1), Tokens::kTopK);
    expect_round_trip(buffer, tokens);
  });
}

TEST(DefectsTest, AsynchronousOperationKeepsItsTensorsAlive) {
  std::latch looked(1);
  std::atomic<bool> is_freed = false;
  run_ranks(2, [&](DeepEPBuffer& buffer, int rank) {
    const Tokens tokens = make_tokens(rank, 2);
    auto received = plain_dispatch(buffer, tokens);
    if (rank == 1) looked.wait();  // so rank 0's combine cannot end before
    at::Tensor memory = received.recv_x.clone();
    at::Tensor y = at::for_blob(memory.data_ptr(), memory.sizes())
                       .deleter([&, rank](void*) {
                         if (rank == 0) is_freed = true;
                       })
                       .target_device(memory.device())
                       .options(memory.options())
                       .make_tensor();
    DeepEPCombineOutput combined =
        buffer.combine(y, *received.handle, std::nullopt, std::nullopt, nullptr, /*async_finish=*/true);
    y.reset();
    received = {};
    if (rank == 0) {
      EXPECT_FALSE(is_freed);
      looked.count_down();
    }
    combined.event_overlap->currentStreamWait();
    const auto in_rank = buffer.getDispatchLayout(tokens.topk_idx, tokens.num_experts).is_token_in_rank;
    EXPECT_TRUE(at::equal(combined.recv_x, (tokens.x.to(at::kFloat) * in_rank.sum(1, true)).to(at::kBFloat16)));
    combined = {};
    buffer.destroy();
    if (rank == 0) {
      EXPECT_TRUE(is_freed);
    }
  });
}

TEST(DefectsTest, EndOfABufferIsNoCollective) {
  std::latch is_over(1);
  run_ranks(2, [&](DeepEPBuffer& buffer, int rank) {
    const auto received = plain_dispatch(buffer, make_tokens(rank, 2));
    if (rank == 1) return is_over.wait();  // and has its buffer meanwhile
    const auto begin = std::chrono::steady_clock::now();
    buffer.destroy();
    EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(2));
    EXPECT_EQ(received.recv_x.size(1), Tokens::kHidden);
    EXPECT_FALSE(received.recv_x.to(at::kFloat).isnan().any().item<bool>()) << "results outlive the buffer";
    is_over.count_down();
  });
}

TEST(DefectsTest, NumSmsIsEvenAndPositive) {
  DeepEPBuffer buffer = single_rank_buffer();
  EXPECT_THAT(message_of([&] { buffer.setNumSMs(0); }), ::testing::HasSubstr("num_sms is 0"));
  EXPECT_THAT(message_of([&] { buffer.setNumSMs(7); }), ::testing::HasSubstr("num_sms is 7"));
  EXPECT_EQ(buffer.getDispatchConfig(8), (Config{24, 6, 256, 6, 128}));
  buffer.setNumSMs(20);
  EXPECT_EQ(buffer.getCombineConfig(32), (Config{20, 1, 288, 20, 128}));
}

TEST(DefectsTest, EveryNumberOfRanksHasAConfiguration) {
  DeepEPBuffer buffer = single_rank_buffer();
  for (int num_ranks = 0; num_ranks <= 200; ++num_ranks) {
    EXPECT_NO_THROW(buffer.getDispatchConfig(num_ranks).validate()) << num_ranks;
    EXPECT_NO_THROW(buffer.getCombineConfig(num_ranks).validate()) << num_ranks;
  }
  EXPECT_THAT(message_of([&] { static_cast<void>(buffer.getDispatchConfig(-3)); }), ::testing::HasSubstr("-3"));
}

TEST(DefectsTest, EngineGathersTheBytes) {
  const auto bootstraps = make_in_process_bootstraps(2);
  run_ranks(2, [&](DeepEPBuffer&, int rank) {
    const auto index = static_cast<std::size_t>(rank);
    DeepEPBuffer buffer(
        [&](std::span<const std::byte> mine) {
          return bootstraps[index]->all_gather(mine, std::chrono::milliseconds(10'000));
        },
        index, 2, 0, static_cast<std::int64_t>(DeepEPBuffer::getLowLatencyRdmaSizeHint(128, 256, 2, 8)), true, 4,
        test_device());
    ASSERT_TRUE(buffer.init());
    expect_round_trip(buffer, make_tokens(rank, 2));
  });
}

TEST(DefectsTest, ConstructorNamesWhatIsWrong) {
  const auto bootstrap = make_in_process_bootstraps(1).front();
  const auto message = [&](std::size_t rank, std::size_t size, std::int64_t bytes, int queue_pairs, at::Device device) {
    return message_of([&] { DeepEPBuffer(bootstrap, rank, size, bytes, 0, false, queue_pairs, device); });
  };
  EXPECT_THAT(message(1, 2, 0, 1, at::kCPU), ::testing::HasSubstr("world_rank is 1 of 2"));
  EXPECT_THAT(message(0, 1, -1, 1, at::kCPU), ::testing::HasSubstr("num_nvl_bytes is -1"));
  EXPECT_THAT(message(0, 1, 0, 0, at::kCPU), ::testing::HasSubstr("num_qps_per_rank is 0"));
  EXPECT_THAT(message(0, 1, 0, 1, at::kMeta), ::testing::HasSubstr("device is meta"));
  EXPECT_THAT(message_of([] { DeepEPBuffer(AllGather(), 0, 1); }), ::testing::HasSubstr("all_gather is empty"));
}

TEST(DefectsTest, EventOfSynchronousOperationIsAbsentAndSaysSo) {
  run_ranks(1, [](DeepEPBuffer& buffer, int) {
    const auto received = plain_dispatch(buffer, make_tokens(0, 1));
    ASSERT_NE(received.event_overlap, nullptr);
    EXPECT_FALSE(received.event_overlap->event().has_value());
    EXPECT_THAT(message_of([&] { received.event_overlap->currentStreamWait(); }), ::testing::HasSubstr("no event"));
    buffer.capture()->currentStreamWait();
  });
}

}  // namespace
}  // namespace crossdock::torch::testing
