// Asynchronous operations: events, order, many in flight, and what outlives what.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <optional>
#include <random>
#include <thread>
#include <vector>

#include "core/refusal.hpp"
#include "core/round_trip.hpp"
#include "core/tensors.hpp"
#include "support/ranks.hpp"

namespace crossdock::testing {
namespace {

constexpr int kRanks = 3;

OperationOptions asynchronous() {
  OperationOptions options;
  options.completion = Completion::kAsynchronous;
  return options;
}

RoundTrip trip_of(const Buffer& buffer, int salt) {
  RoundTripShape shape;
  shape.salt = salt;
  return {buffer.rank(), buffer.num_ranks(), shape};
}

CombineInput combine_with_weights(const DispatchOutput& dispatched) {
  CombineInput result = combine_of(dispatched);
  result.topk_weights = dispatched.recv_topk_weights;
  return result;
}

using ::testing::ElementsAreArray;

TEST(Asynchronous, RoundTripsWithAndWithoutPreviousEvents) {
  run_as_threads(kRanks, [](const std::shared_ptr<Bootstrap>& bootstrap) {
    Buffer buffer(bootstrap, roomy_options());
    for (int i = 0; i < 50; ++i) {
      RoundTripShape shape;
      shape.salt = i;
      OperationOptions options = asynchronous();
      if (i % 2 == 1) options.previous_event = buffer.capture();
      if (i % 4 == 3) options.allocation = Allocation::kCommunicationStream;
      run_round_trip(buffer, shape, options);
    }
  });
}

TEST(Asynchronous, CombineFollowsItsDispatchWithoutAWaitBetween) {
  run_as_threads(kRanks, [](const std::shared_ptr<Bootstrap>& bootstrap) {
    Buffer buffer(bootstrap, roomy_options());
    Event previous;
    for (int i = 0; i < 50; ++i) {
      const RoundTrip trip = trip_of(buffer, i);
      OperationOptions options = asynchronous();
      options.previous_event = previous;
      const DispatchOutput dispatched = buffer.dispatch(trip.input(), options);
      options.previous_event = dispatched.event;
      const CombineOutput combined = buffer.combine(combine_with_weights(dispatched), options);
      combined.event.wait();
      EXPECT_TRUE(dispatched.event.is_complete());
      trip.check(dispatched);
      trip.check(combined);
      previous = combined.event;
    }
  });
}

TEST(InFlight, ManyDispatchesThenCombinesInAnotherOrder) {
  for (const Completion completion : {Completion::kSynchronous, Completion::kAsynchronous}) {
    run_as_threads(kRanks, [completion](const std::shared_ptr<Bootstrap>& bootstrap) {
      constexpr int kCount = 32;
      Buffer buffer(bootstrap, roomy_options());
      OperationOptions options;
      options.completion = completion;
      std::vector<DispatchOutput> dispatched;
      for (int i = 0; i < kCount; ++i) dispatched.push_back(buffer.dispatch(trip_of(buffer, i).input(), options));
      std::vector<int> order(kCount);
      for (int i = 0; i < kCount; ++i) order[static_cast<std::size_t>(i)] = i;
      std::shuffle(order.begin(), order.end(), std::mt19937(7));  // NOLINT: the same on all ranks
      std::vector<CombineOutput> combined;
      for (const int i : order) {
        const DispatchOutput& output = dispatched[static_cast<std::size_t>(i)];
        combined.push_back(buffer.combine(combine_with_weights(output), options));
      }
      for (std::size_t at = 0; at < order.size(); ++at) {
        combined[at].event.wait();
        trip_of(buffer, order[at]).check(dispatched[static_cast<std::size_t>(order[at])]);
        trip_of(buffer, order[at]).check(combined[at]);
      }
    });
  }
}

TEST(InFlight, TwoBuffersInterleaved) {
  run_as_threads(kRanks, [](const std::shared_ptr<Bootstrap>& bootstrap) {
    Buffer first(bootstrap, roomy_options());
    Buffer second(bootstrap, roomy_options());
    for (int i = 0; i < 30; ++i) {
      const RoundTrip trip = trip_of(first, i);
      const RoundTrip other = trip_of(second, i + 1);
      const DispatchOutput a = first.dispatch(trip.input(), asynchronous());
      OperationOptions after_a = asynchronous();
      after_a.previous_event = a.event;
      const DispatchOutput b = second.dispatch(other.input(), after_a);
      const CombineOutput c = second.combine(combine_with_weights(b), asynchronous());
      const CombineOutput d = first.combine(combine_with_weights(a), asynchronous());
      d.event.wait();
      c.event.wait();
      trip.check(a);
      other.check(b);
      other.check(c);
      trip.check(d);
    }
  });
}

TEST(InFlight, SynchronousBetweenAsynchronous) {
  run_as_threads(kRanks, [](const std::shared_ptr<Bootstrap>& bootstrap) {
    Buffer buffer(bootstrap, roomy_options());
    for (int i = 0; i < 30; ++i) {
      const RoundTrip trip = trip_of(buffer, i);
      const DispatchOutput dispatched = buffer.dispatch(trip.input(), asynchronous());
      run_round_trip(buffer);
      const CombineOutput combined = buffer.combine(combine_with_weights(dispatched), asynchronous());
      run_round_trip(buffer);
      combined.event.wait();
      trip.check(dispatched);
      trip.check(combined);
    }
  });
}

TEST(WorstCase, NothingDependsOnTheCounts) {
  run_as_threads(kRanks, [](const std::shared_ptr<Bootstrap>& bootstrap) {
    Buffer buffer(bootstrap, roomy_options());
    for (int i = 0; i < 30; ++i) {
      constexpr std::int64_t kRows = 40;
      const RoundTrip trip = trip_of(buffer, i);
      DispatchInput input = trip.input();
      input.num_worst_tokens = kRows;
      const DispatchOutput dispatched = buffer.dispatch(input, asynchronous());
      ASSERT_EQ(dispatched.recv_x.size(0), kRows);
      EXPECT_EQ(dispatched.handle.num_recv_rows(), kRows);
      EXPECT_TRUE(dispatched.num_recv_tokens_per_expert.empty());
      const CombineOutput combined = buffer.combine(combine_with_weights(dispatched), asynchronous());
      const DispatchOutput again = buffer.dispatch(cached_of(input, dispatched), asynchronous());
      again.event.wait();
      combined.event.wait();
      trip.check(dispatched);
      trip.check(combined);
      trip.check(again);
      for (std::int64_t at = 2 * trip.num_recv_tokens(); at < 2 * kRows; ++at) {
        ASSERT_EQ(dispatched.recv_topk_idx->data_as<std::int64_t>()[at], -1);
        ASSERT_EQ(dispatched.recv_topk_weights->data_as<float>()[at], 0.0F);
      }
    }
  });
}

TEST(WorstCase, OneRankRunsFurtherAheadThanAWindowHasSlots) {
  run_as_threads(2, [](const std::shared_ptr<Bootstrap>& bootstrap) {
    constexpr int kCount = 40;
    Buffer buffer(bootstrap, roomy_options());
    if (buffer.rank() == 1) std::this_thread::sleep_for(Milliseconds(150));
    std::vector<DispatchOutput> outputs;
    for (int i = 0; i < kCount; ++i) {
      DispatchInput input = trip_of(buffer, i).input();
      input.num_worst_tokens = 20;
      outputs.push_back(buffer.dispatch(input, asynchronous()));
      if (buffer.rank() == 1 && i % 10 == 0) std::this_thread::sleep_for(Milliseconds(20));
    }
    for (int i = 0; i < kCount; ++i) {
      outputs[static_cast<std::size_t>(i)].event.wait();
      trip_of(buffer, i).check(outputs[static_cast<std::size_t>(i)]);
    }
  });
}

TEST(Events, MayBeWaitedForTwiceAndFromOtherThreads) {
  run_as_threads(kRanks, [](const std::shared_ptr<Bootstrap>& bootstrap) {
    Buffer buffer(bootstrap, roomy_options());
    for (int i = 0; i < 20; ++i) {
      const RoundTrip trip = trip_of(buffer, i);
      const DispatchOutput dispatched = buffer.dispatch(trip.input(), asynchronous());
      const Event event = dispatched.event;
      std::vector<std::thread> waiters;
      for (int w = 0; w < 3; ++w) waiters.emplace_back([event] { event.wait(); });
      event.wait();
      for (std::thread& waiter : waiters) waiter.join();
      event.wait();
      EXPECT_TRUE(event.is_complete());
      trip.check(dispatched);
    }
    EXPECT_TRUE(Event().is_complete());
    Event().wait();
  });
}

TEST(Events, ThrowTheSameErrorEveryTime) {
  const auto attempts = attempt(kRanks, roomy_options(), [](Buffer& buffer) {
    DispatchInput input = trip_of(buffer, 0).input();
    input.num_worst_tokens = 1;
    const DispatchOutput dispatched = buffer.dispatch(input, asynchronous());
    for (int i = 0; i < 2; ++i) {
      try {
        dispatched.event.wait();
        ADD_FAILURE() << "no error";
      } catch (const Error& error) {
        EXPECT_EQ(name_of(error.code()), name_of(ErrorCode::kCapacity));
      }
    }
    EXPECT_TRUE(dispatched.event.is_complete());
    dispatched.event.wait();
  });
  for (const Attempt& attempted : attempts) EXPECT_TRUE(attempted.error.has_value());
}

TEST(Lifetimes, InputsLiveUntilTheEvent) {
  run_as_threads(kRanks, [](const std::shared_ptr<Bootstrap>& bootstrap) {
    Buffer buffer(bootstrap, roomy_options());
    for (int i = 0; i < 20; ++i) {
      const RoundTrip trip = trip_of(buffer, i);
      std::optional<DispatchInput> input = trip.input();
      DispatchOutput dispatched = buffer.dispatch(*input, asynchronous());
      input.reset();
      dispatched.event.wait();
      trip.check(dispatched);
      const CombineOutput combined = buffer.combine(combine_with_weights(dispatched), asynchronous());
      dispatched = {};  // the rows live on in the operation
      combined.event.wait();
      trip.check(combined);
    }
  });
}

TEST(Lifetimes, TensorsAndHandlesOutliveTheBuffer) {
  run_as_threads(kRanks, [](const std::shared_ptr<Bootstrap>& bootstrap) {
    const RoundTrip trip(bootstrap->rank(), kRanks);
    std::optional<Buffer> buffer(std::in_place, bootstrap, roomy_options());
    const DispatchOutput dispatched = buffer->dispatch(trip.input());
    const CombineOutput combined = buffer->combine(combine_with_weights(dispatched));
    const Tensor room = buffer->combine_input(dispatched.handle, 24);
    buffer.reset();
    trip.check(dispatched);
    trip.check(combined);
    EXPECT_EQ(dispatched.handle.parity_matrices(2).send_head.size(0), trip.input().x.size(0));
    std::fill_n(room.data_as<std::uint8_t>(), room.num_bytes(), std::uint8_t{1});
    Buffer next(bootstrap, roomy_options());
    run_round_trip(next);
  });
}

TEST(Lifetimes, DestroyRunsWhatIsInFlight) {
  run_as_threads(kRanks, [](const std::shared_ptr<Bootstrap>& bootstrap) {
    Buffer buffer(bootstrap, roomy_options());
    std::vector<DispatchOutput> dispatched;
    std::vector<CombineOutput> combined;
    for (int i = 0; i < 10; ++i) {
      dispatched.push_back(buffer.dispatch(trip_of(buffer, i).input(), asynchronous()));
      combined.push_back(buffer.combine(combine_with_weights(dispatched.back()), asynchronous()));
    }
    buffer.destroy();
    for (std::size_t i = 0; i < combined.size(); ++i) {
      EXPECT_TRUE(combined[i].event.is_complete());
      combined[i].event.wait();
      trip_of(buffer, static_cast<int>(i)).check(dispatched[i]);
      trip_of(buffer, static_cast<int>(i)).check(combined[i]);
    }
  });
}

TEST(Slabs, ComeBackInEveryOrder) {
  run_as_threads(kRanks, [](const std::shared_ptr<Bootstrap>& bootstrap) {
    Buffer buffer(bootstrap, roomy_options());
    const std::size_t all = buffer.arena_bytes_free();
    for (unsigned seed = 0; seed < 20; ++seed) {
      std::vector<DispatchOutput> outputs;
      for (int i = 0; i < 6; ++i) {
        outputs.push_back(
            buffer.dispatch(trip_of(buffer, i).input(), i % 2 == 0 ? asynchronous() : OperationOptions{}));
      }
      for (const DispatchOutput& output : outputs) output.event.wait();
      EXPECT_LT(buffer.arena_bytes_free(), all);
      std::shuffle(outputs.begin(), outputs.end(), std::mt19937(seed));  // NOLINT: the same on all ranks
      while (!outputs.empty()) outputs.pop_back();
      ASSERT_EQ(buffer.arena_bytes_free(), all);
    }
  });
}

TEST(Parity, MatricesAgreeWithWhatWasSent) {
  run_as_threads(kRanks, [](const std::shared_ptr<Bootstrap>& bootstrap) {
    constexpr int kChannels = 2;
    Buffer buffer(bootstrap, roomy_options());
    const DispatchOutput dispatched = buffer.dispatch(trip_of(buffer, 3).input());
    const ParityMatrices parity = dispatched.handle.parity_matrices(kChannels);
    const auto* prefix = parity.rank_prefix_matrix.data_as<std::int32_t>();
    EXPECT_EQ(prefix[(kRanks - 1) * kRanks + buffer.rank()], dispatched.handle.num_recv_tokens());
    const std::int64_t tokens = dispatched.handle.num_tokens();
    ASSERT_THAT(std::vector(parity.send_head.shape().begin(), parity.send_head.shape().end()),
                ElementsAreArray({tokens, std::int64_t{kRanks}}));
    for (int dst = 0; dst < kRanks; ++dst) {
      const std::int32_t before = buffer.rank() > 0 ? prefix[(buffer.rank() - 1) * kRanks + dst] : 0;
      const std::int32_t sent = prefix[buffer.rank() * kRanks + dst] - before;
      EXPECT_EQ(parity.channel_prefix_matrix.data_as<std::int32_t>()[dst * kChannels + kChannels - 1], sent);
      std::int32_t members = 0;
      for (std::int64_t t = 0; t < tokens; ++t) {
        const bool is_member = parity.is_token_in_rank.data_as<std::uint8_t>()[t * kRanks + dst] != 0;
        members += is_member ? 1 : 0;
        EXPECT_EQ(parity.send_head.data_as<std::int32_t>()[t * kRanks + dst] >= 0, is_member);
      }
      EXPECT_EQ(members, sent);
      EXPECT_EQ(parity.recv_channel_prefix_matrix.data_as<std::int32_t>()[dst * kChannels], 0);
    }
    EXPECT_EQ(parity.recv_src_idx.data(), dispatched.handle.recv_src_idx().data());
    EXPECT_THROW(static_cast<void>(dispatched.handle.parity_matrices(0)), Error);
    run_round_trip(buffer);
  });
}

}  // namespace
}  // namespace crossdock::testing
