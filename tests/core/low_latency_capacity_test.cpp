// Arenas of exactly the bytes that the size hint or an error message says, and arenas that are too small.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <charconv>
#include <cstdint>
#include <functional>
#include <mutex>
#include <ostream>
#include <string>
#include <string_view>
#include <vector>

#include <crossdock/config.hpp>

#include "core/low_latency_refusal.hpp"
#include "support/ranks.hpp"

namespace crossdock::testing {
namespace {

namespace oracle = reference::low_latency;

struct Shape {
  int num_ranks;
  int num_experts;
  int num_topk;
  std::int64_t hidden;
  std::int64_t max_tokens;

  friend void PrintTo(const Shape& shape, std::ostream* out) {
    *out << shape.num_ranks << " ranks, " << shape.num_experts << " experts, top-" << shape.num_topk << ", hidden "
         << shape.hidden << ", M " << shape.max_tokens;
  }
};

std::size_t hint_of(const Shape& shape) {
  return get_low_latency_rdma_size_hint(static_cast<int>(shape.max_tokens), shape.hidden, shape.num_ranks,
                                        shape.num_experts);
}

/// As many tokens as there may be; the ranks' choices overlap.
LowLatencyWorld make_full_world(const Shape& shape, std::uint64_t seed) {
  LowLatencyWorld world;
  world.seed = seed;
  world.dispatch.num_experts = shape.num_experts;
  world.dispatch.num_topk = shape.num_topk;
  world.dispatch.hidden = shape.hidden;
  world.dispatch.max_tokens = shape.max_tokens;
  world.dispatch.format = static_cast<oracle::RowFormat>(seed % 4);
  for (int r = 0; r < shape.num_ranks; ++r) {
    oracle::DispatchRank& rank = world.dispatch.ranks.emplace_back();
    rank.num_tokens = shape.max_tokens;
    for (std::int64_t i = 0; i < shape.max_tokens * shape.hidden; ++i) {
      rank.x.push_back(to_bfloat16(static_cast<float>((i * 7 + r) % 100) / 16.0F));
    }
    for (std::int64_t i = 0; i < shape.max_tokens * shape.num_topk; ++i) {
      rank.topk_idx.push_back((i / shape.num_topk + i % shape.num_topk) % shape.num_experts);
    }
  }
  complete_low_latency_world(world);
  return world;
}

BufferOptions options_with(std::size_t arena_bytes) {
  BufferOptions options = roomy_options();
  options.arena_bytes = arena_bytes;
  options.max_experts = 256;
  options.timeout = Milliseconds(20'000);
  return options;
}

/// Every row format from every place where rows may lie; ranks differ in when they receive.
std::vector<LowLatencyWorld> make_worlds(const Shape& shape) {
  std::vector<LowLatencyWorld> worlds;
  for (std::uint64_t seed = 0; seed < 12; ++seed) worlds.push_back(make_full_world(shape, seed));
  return worlds;
}

OperationOptions options_of_round(int round, int rank) {
  OperationOptions options;
  options.completion = (round / 3 + rank) % 2 == 0 ? Completion::kSynchronous : Completion::kHook;
  return options;
}

class LowLatencyArena : public ::testing::TestWithParam<Shape> {};

TEST_P(LowLatencyArena, OfTheHintIsEnoughForManyRounds) {
  constexpr int kRounds = 300;
  const std::vector<LowLatencyWorld> worlds = make_worlds(GetParam());
  run_as_threads(GetParam().num_ranks, [&](const std::shared_ptr<Bootstrap>& bootstrap) {
    Buffer buffer(bootstrap, options_with(hint_of(GetParam())));
    for (int round = 0; round < kRounds; ++round) {
      LowLatencyRun run(buffer, worlds[static_cast<std::size_t>(round) % worlds.size()]);
      const OperationOptions options = options_of_round(round, buffer.rank());
      if (round % 7 != 6) {
        run.run(options);
      } else {  // a dispatch without a combine
        run.dispatch(options);
        run.receive_dispatch();
        run.check_dispatch();
      }
    }
  });
}

TEST_P(LowLatencyArena, OfBothHintsIsEnoughForBothModes) {
  constexpr int kRounds = 36;
  const std::vector<LowLatencyWorld> worlds = make_worlds(GetParam());
  const RoundTripShape throughput;
  const ArenaSizeArgs args{.num_recv_tokens = (throughput.num_tokens + 2) * GetParam().num_ranks,
                           .row_bytes = throughput.hidden * 2,
                           .num_scales = 0,
                           .scale_bytes = 0,
                           .num_topk = throughput.num_topk,
                           .combine_row_bytes = throughput.hidden * 2};
  run_as_threads(GetParam().num_ranks, [&](const std::shared_ptr<Bootstrap>& bootstrap) {
    Buffer buffer(bootstrap, options_with(hint_of(GetParam()) + get_arena_size_hint(args)));
    for (int round = 0; round < kRounds; ++round) {
      LowLatencyRun run(buffer, worlds[static_cast<std::size_t>(round) % worlds.size()]);
      const OperationOptions options = options_of_round(round, buffer.rank());
      run.dispatch(options);
      run_round_trip(buffer);
      run.receive_dispatch();
      run.check_dispatch();
      run.combine(options);
      if (options.completion == Completion::kSynchronous) run_round_trip(buffer);
      run.receive_combine();
      run.check_combine();
      if (options.completion != Completion::kSynchronous) run_round_trip(buffer);
    }
  });
}

INSTANTIATE_TEST_SUITE_P(Shapes, LowLatencyArena,
                         ::testing::Values(Shape{1, 1, 1, 1, 1}, Shape{2, 1, 1, 1, 1}, Shape{3, 5, 4, 129, 2},
                                           Shape{3, 7, 7, 2047, 5}, Shape{4, 16, 8, 256, 8}, Shape{2, 8, 8, 4096, 8}));

/// The bytes that a message says would do.
std::size_t bytes_that_would_do(const std::string& text) {
  constexpr std::string_view kBefore = "BufferOptions::arena_bytes of ";
  const std::size_t at = text.find(kBefore);
  std::size_t bytes = 0;
  if (at != std::string::npos) {
    const char* const digits = text.data() + at + kBefore.size();
    std::from_chars(digits, text.data() + text.size(), bytes);
  }
  return bytes;
}

/// Runs `body` on all ranks of a buffer with an arena of `bytes`, and again with what the messages then say. The
/// refused operation leaves a buffer that works.
void expect_message_that_says_enough(int num_ranks, std::size_t bytes, const std::function<void(Buffer&)>& body) {
  std::size_t enough = 0;
  std::mutex mutex;
  run_as_threads(num_ranks, [&](const std::shared_ptr<Bootstrap>& bootstrap) {
    Buffer buffer(bootstrap, options_with(bytes));
    try {
      body(buffer);
      ADD_FAILURE() << "nothing was thrown";
    } catch (const Error& error) {
      const std::scoped_lock lock(mutex);
      EXPECT_EQ(name_of(error.code()), name_of(ErrorCode::kCapacity)) << error.what();
      EXPECT_THAT(error.what(), ::testing::HasSubstr("rank " + std::to_string(error.rank())));
      enough = std::max(enough, bytes_that_would_do(error.what()));
    }
    EXPECT_TRUE(buffer.is_available());
    LowLatencyDispatchInput small = good_low_latency_dispatch(buffer);
    small.num_max_dispatch_tokens_per_rank = 5;
    static_cast<void>(buffer.low_latency_dispatch(small));
  });
  EXPECT_GT(enough, bytes);
  const auto again = [&](const std::shared_ptr<Bootstrap>& bootstrap) {
    Buffer buffer(bootstrap, options_with(enough));
    body(buffer);
  };
  EXPECT_NO_THROW(run_as_threads(num_ranks, again)) << enough << " bytes would not do";
}

/// What arenas have in common is rounded up to pages; these are far from that.
TEST(LowLatencyCapacity, MessageSaysWhatADispatchNeeds) {
  const Shape shape{.num_ranks = 3, .num_experts = 6, .num_topk = 4, .hidden = 1000, .max_tokens = 16};
  for (std::uint64_t format = 0; format < 4; ++format) {
    SCOPED_TRACE("format " + std::to_string(format));
    const LowLatencyWorld world = make_full_world(shape, format);
    const auto body = [&](Buffer& buffer) {
      LowLatencyRun run(buffer, world);
      run.dispatch();
      run.receive_dispatch();
      run.check_dispatch();
    };
    for (const std::size_t bytes : {16'384, 65'536}) expect_message_that_says_enough(3, bytes, body);
  }
}

/// Only one rank has too little; M is what makes it so.
TEST(LowLatencyCapacity, OneSmallArenaIsTheErrorOfAllRanks) {
  static constexpr int kSmall = 1;
  run_as_threads(3, [](const std::shared_ptr<Bootstrap>& bootstrap) {
    Buffer buffer(bootstrap, options_with(bootstrap->rank() == kSmall ? 65'536 : 1 << 20U));
    LowLatencyDispatchInput input = good_low_latency_dispatch(buffer);
    input.num_max_dispatch_tokens_per_rank = 1000;
    for (const Completion completion : kCompletions) {
      OperationOptions options;
      options.completion = completion;
      try {
        finish(buffer.low_latency_dispatch(input, options));
        ADD_FAILURE() << "nothing was thrown";
      } catch (const Error& error) {
        EXPECT_EQ(name_of(error.code()), name_of(ErrorCode::kCapacity)) << error.what();
        EXPECT_EQ(error.rank(), kSmall) << error.what();
        for (const char* text : {"rank 1", "low_latency_dispatch", "the arena of 65536 bytes", "would do"}) {
          EXPECT_THAT(error.what(), ::testing::HasSubstr(text));
        }
      }
      run_low_latency_round_trip(buffer);
      run_round_trip(buffer);
    }
  });
}

TEST(LowLatencyCapacity, NextCombineBufferSaysWhatWouldDoOnThisRankAlone) {
  run_as_threads(2, [](const std::shared_ptr<Bootstrap>& bootstrap) {
    Buffer buffer(bootstrap, options_with(1 << 20U));
    const LowLatencyDispatchOutput output = buffer.low_latency_dispatch(good_low_latency_dispatch(buffer));
    std::vector<Tensor> tensors;
    try {
      while (tensors.size() < 10'000) tensors.push_back(buffer.next_combine_buffer(output.handle));
      ADD_FAILURE() << "nothing was thrown";
    } catch (const Error& error) {
      EXPECT_EQ(name_of(error.code()), name_of(ErrorCode::kCapacity)) << error.what();
      EXPECT_EQ(error.rank(), buffer.rank());
      EXPECT_THAT(error.what(), ::testing::HasSubstr("next_combine_buffer"));
      EXPECT_GT(bytes_that_would_do(error.what()), buffer.arena_bytes_total());
    }
    tensors.clear();
    run_low_latency_round_trip(buffer);
  });
}

}  // namespace
}  // namespace crossdock::testing
