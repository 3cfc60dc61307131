// Statistics of both modes: tokens that experts received, and how long a rank waited for each other.
#include <gtest/gtest.h>

#include <chrono>
#include <cstdint>
#include <functional>
#include <ostream>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "core/low_latency_refusal.hpp"
#include "support/ranks.hpp"

namespace crossdock::testing {
namespace {

constexpr int kRanks = 3;

/// A world's dispatch in throughput mode.
DispatchInput throughput_input(const LowLatencyWorld& world, int rank) {
  const LowLatencyDispatchInput from = low_latency_input(world, rank);
  DispatchInput input;
  input.x = from.x;
  input.topk_idx = from.topk_idx;
  input.topk_weights = make_tensor(DataType::kFloat32, {from.topk_idx.size(0), from.topk_idx.size(1)});
  input.num_experts = from.num_experts;
  return input;
}

/// Each way of dispatching adds what the oracle says once, whatever its counts are rounded up to.
TEST(RecvStatistics, AddUpInBothModes) {
  for (std::uint64_t seed = 1; seed <= 10; ++seed) {
    const LowLatencyWorld world = make_low_latency_world(seed, {.num_ranks = kRanks, .max_hidden = 100});
    const auto body = [&](const std::shared_ptr<Bootstrap>& bootstrap) {
      Buffer buffer(bootstrap, roomy_options());
      const auto& count = world.dispatched[static_cast<std::size_t>(buffer.rank())].count;
      const Tensor statistics = make_tensor(DataType::kInt32, {static_cast<std::int64_t>(count.size())});
      DispatchInput input = throughput_input(world, buffer.rank());
      input.cumulative_local_expert_recv_stats = statistics;
      input.expert_alignment = 8;
      static_cast<void>(buffer.dispatch(input));
      LowLatencyDispatchInput low_latency = low_latency_input(world, buffer.rank());
      low_latency.cumulative_local_expert_recv_stats = statistics;
      static_cast<void>(buffer.low_latency_dispatch(low_latency));
      input.num_worst_tokens = world.num_ranks() * world.dispatch.max_tokens;
      static_cast<void>(buffer.dispatch(input));
      for (std::size_t expert = 0; expert < count.size(); ++expert) {
        if (statistics.data_as<std::int32_t>()[expert] != 3 * count[expert]) throw std::runtime_error("other counts");
      }
    };
    ASSERT_NO_THROW(run_as_threads(kRanks, body)) << world.description();
  }
}

TEST(RecvStatistics, MayBeSharedByOperationsInFlight) {
  const LowLatencyWorld world = make_low_latency_world(3, {.num_ranks = kRanks, .max_hidden = 100});
  run_as_threads(kRanks, [&](const std::shared_ptr<Bootstrap>& bootstrap) {
    Buffer buffer(bootstrap, {.arena_bytes = std::size_t{4} << 20U, .huge_pages = HugePages::kNever});
    const auto& count = world.dispatched[static_cast<std::size_t>(buffer.rank())].count;
    const Tensor statistics = make_tensor(DataType::kInt32, {static_cast<std::int64_t>(count.size())});
    LowLatencyDispatchInput input = low_latency_input(world, buffer.rank());
    input.cumulative_local_expert_recv_stats = statistics;
    constexpr int kRounds = 50;
    for (int round = 0; round < kRounds; ++round) {
      OperationOptions options;
      options.completion = Completion::kAsynchronous;
      const LowLatencyDispatchOutput first = buffer.low_latency_dispatch(input, options);
      options.completion = Completion::kHook;
      finish(buffer.low_latency_dispatch(input, options));
      finish(first);
    }
    for (std::size_t expert = 0; expert < count.size(); ++expert) {
      if (statistics.data_as<std::int32_t>()[expert] != 2 * kRounds * count[expert]) {
        throw std::runtime_error("other counts");
      }
    }
  });
}

TEST(RecvStatistics, OfOtherShapesAreRefusedByAllRanksInThroughputModeToo) {
  constexpr int kBadRank = 1;
  const Tensor bad[] = {make_tensor(DataType::kInt64, {2}), make_tensor(DataType::kInt32, {6}),
                        make_tensor(DataType::kInt32, {2, 1})};
  for (const Tensor& statistics : bad) {
    const auto attempts = attempt_low_latency(kRanks, [&](Buffer& buffer) {
      DispatchInput input = RoundTrip(buffer.rank(), kRanks).input();
      if (buffer.rank() == kBadRank) input.cumulative_local_expert_recv_stats = statistics;
      static_cast<void>(buffer.dispatch(input));
    });
    expect_refusal(attempts, {ErrorCode::kInvalidArgument,
                              kBadRank,
                              {"cumulative_local_expert_recv_stats is " + statistics.description(),
                               "contiguous int32 [2] is allowed"}});
  }
}

/// An operation, and what must come before it.
struct Waiting {
  std::string name;
  std::function<std::function<void(const OperationOptions&)>(Buffer&)> prepare;

  friend void PrintTo(const Waiting& waiting, std::ostream* out) { *out << waiting.name; }
};

class WaitStatistics : public ::testing::TestWithParam<Waiting> {};

/// Rank 1 is late; the others say so, and it of no one.
TEST_P(WaitStatistics, SayWhoWasLate) {
  constexpr int kLate = 1;
  constexpr std::chrono::milliseconds kDelay{50};
  constexpr std::int64_t kAtLeast = 30'000'000;  // nanoseconds: the others may be late themselves
  std::vector<std::vector<std::int64_t>> waited(kRanks, std::vector<std::int64_t>(kRanks));
  run_as_threads(kRanks, [&](const std::shared_ptr<Bootstrap>& bootstrap) {
    Buffer buffer(bootstrap, roomy_options());
    const auto operation = GetParam().prepare(buffer);
    run_round_trip(buffer);
    if (buffer.rank() == kLate) std::this_thread::sleep_for(kDelay);
    OperationOptions options;
    options.wait_recv_cost_stats =
        Tensor::borrow(waited[static_cast<std::size_t>(buffer.rank())].data(), DataType::kInt64, {kRanks});
    operation(options);
  });
  for (std::size_t rank = 0; rank < kRanks; ++rank) {
    SCOPED_TRACE("rank " + std::to_string(rank));
    EXPECT_EQ(waited[rank][rank], 0);
    if (rank == kLate) continue;
    EXPECT_GE(waited[rank][kLate], kAtLeast);
  }
}

const Waiting kWaiting[] = {
    {"LowLatencyDispatch",
     [](Buffer& buffer) {
       return [&buffer](const OperationOptions& options) {
         finish(buffer.low_latency_dispatch(good_low_latency_dispatch(buffer), options));
       };
     }},
    {"LowLatencyDispatchWithAHook",
     [](Buffer& buffer) {
       return [&buffer](OperationOptions options) {
         options.completion = Completion::kHook;
         finish(buffer.low_latency_dispatch(good_low_latency_dispatch(buffer), options));
       };
     }},
    {"LowLatencyCombine",
     [](Buffer& buffer) {
       const LowLatencyDispatchInput dispatch = good_low_latency_dispatch(buffer);
       const LowLatencyDispatchOutput dispatched = buffer.low_latency_dispatch(dispatch);
       return [&buffer, dispatch, dispatched](const OperationOptions& options) {
         finish(buffer.low_latency_combine(good_low_latency_combine(buffer, dispatched.handle, dispatch.topk_idx),
                                           options));
       };
     }},
    {"Dispatch",
     [](Buffer& buffer) {
       return [&buffer](const OperationOptions& options) {
         buffer.dispatch(RoundTrip(buffer.rank(), kRanks).input(), options).event.wait();
       };
     }},
    {"AsynchronousCombine",
     [](Buffer& buffer) {
       const DispatchOutput dispatched = buffer.dispatch(RoundTrip(buffer.rank(), kRanks).input());
       return [&buffer, dispatched](OperationOptions options) {
         options.completion = Completion::kAsynchronous;
         buffer.combine(combine_of(dispatched), options).event.wait();
       };
     }},
};

INSTANTIATE_TEST_SUITE_P(BothModes, WaitStatistics, ::testing::ValuesIn(kWaiting),
                         [](const auto& test) { return test.param.name; });

}  // namespace
}  // namespace crossdock::testing
