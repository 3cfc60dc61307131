// Arenas and worst-case counts that are too small: refused on all ranks, with the number that would do.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <functional>
#include <stdexcept>
#include <string>
#include <string_view>

#include "core/refusal.hpp"
#include "core/round_trip.hpp"
#include "core/tensors.hpp"
#include "support/ranks.hpp"

namespace crossdock::testing {
namespace {

constexpr int kRanks = 3;
constexpr int kSmallRank = 1;

/// About 0.9 MB for each rank.
RoundTripShape large_shape() {
  RoundTripShape shape;
  shape.num_tokens = 60;
  shape.hidden = 4000;
  shape.num_scales = 3;
  return shape;
}

BufferOptions options_of(int rank, std::size_t small_arena) {
  BufferOptions options = roomy_options();
  options.arena_bytes = rank == kSmallRank ? small_arena : std::size_t{16} << 20U;
  return options;
}

/// The number of bytes that the message says would do.
std::size_t bytes_that_would_do(const std::string& text) {
  constexpr std::string_view kBefore = "arena_bytes of ";
  const std::size_t at = text.find(kBefore);
  if (at == std::string::npos) throw std::runtime_error("no number in: " + text);
  return std::stoull(text.substr(at + kBefore.size()));
}

using Body = std::function<void(Buffer&)>;

/// Every rank must refuse `body` for want of room on the small rank, and work on; with as many bytes as the message
/// says the same body must succeed.
void expect_room_is_told(std::size_t too_small, const Body& body) {
  std::size_t enough = 0;
  run_as_threads(kRanks, [&](const std::shared_ptr<Bootstrap>& bootstrap) {
    Buffer buffer(bootstrap, options_of(bootstrap->rank(), too_small));
    const std::size_t bytes_free = buffer.arena_bytes_free();
    for (int repetition = 0; repetition < 3; ++repetition) {
      try {
        body(buffer);
        ADD_FAILURE() << "there was room";
      } catch (const Error& error) {
        EXPECT_EQ(name_of(error.code()), name_of(ErrorCode::kCapacity)) << error.what();
        EXPECT_EQ(error.rank(), kSmallRank) << error.what();
        EXPECT_THAT(error.what(), ::testing::HasSubstr("rank 1"));
        if (buffer.rank() == kSmallRank) enough = bytes_that_would_do(error.what());
        EXPECT_GT(bytes_that_would_do(error.what()), too_small);
      }
      EXPECT_EQ(buffer.arena_bytes_free(), bytes_free);
      run_round_trip(buffer);
    }
  });
  run_as_threads(kRanks, [&](const std::shared_ptr<Bootstrap>& bootstrap) {
    Buffer buffer(bootstrap, options_of(bootstrap->rank(), enough));
    body(buffer);
  });
}

TEST(Capacity, DispatchTellsTheBytesThatWouldDo) {
  expect_room_is_told(100'000, [](Buffer& buffer) {
    const RoundTrip trip(buffer.rank(), kRanks, large_shape());
    trip.check(buffer.dispatch(trip.input()));
  });
}

TEST(Capacity, SecondDispatchCountsTheTensorsOfTheFirst) {
  expect_room_is_told(1'000'000, [](Buffer& buffer) {
    const RoundTrip trip(buffer.rank(), kRanks, large_shape());
    const DispatchInput input = trip.input();
    const DispatchOutput first = buffer.dispatch(input);
    trip.check(buffer.dispatch(input));
    trip.check(first);
  });
}

TEST(Capacity, CachedDispatchOfAWorstCaseHandle) {
  expect_room_is_told(1'500'000, [](Buffer& buffer) {
    const RoundTrip trip(buffer.rank(), kRanks, large_shape());
    DispatchInput input = trip.input();
    input.num_worst_tokens = 150;
    const DispatchOutput first = buffer.dispatch(input);
    trip.check(buffer.dispatch(cached_of(input, first)));
  });
}

TEST(Capacity, WorstCaseDispatch) {
  expect_room_is_told(100'000, [](Buffer& buffer) {
    DispatchInput input = RoundTrip(buffer.rank(), kRanks, large_shape()).input();
    input.num_worst_tokens = 150;
    static_cast<void>(buffer.dispatch(input));
  });
}

TEST(Capacity, StagingForCombine) {
  for (const Completion completion : {Completion::kSynchronous, Completion::kAsynchronous}) {
    expect_room_is_told(1'000'000, [completion](Buffer& buffer) {
      const RoundTrip trip(buffer.rank(), kRanks, large_shape());
      const DispatchOutput dispatched = buffer.dispatch(trip.input());
      CombineInput input = combine_of(dispatched);
      input.x = make_tensor(DataType::kFloat32, {dispatched.recv_x.size(0), 4000});
      OperationOptions options;
      options.completion = completion;
      buffer.combine(input, options).event.wait();
    });
  }
}

TEST(Capacity, CombineInput) {
  run_as_threads(kRanks, [](const std::shared_ptr<Bootstrap>& bootstrap) {
    Buffer buffer(bootstrap, roomy_options());
    const DispatchOutput dispatched = buffer.dispatch(RoundTrip(buffer.rank(), kRanks).input());
    for (const std::int64_t hidden : {std::int64_t{1'000'000}, INT64_MAX / 16, INT64_MAX}) {
      try {
        static_cast<void>(buffer.combine_input(dispatched.handle, hidden));
        ADD_FAILURE() << "there was room for rows of " << hidden;
      } catch (const Error& error) {
        EXPECT_EQ(name_of(error.code()), name_of(ErrorCode::kCapacity)) << error.what();
        EXPECT_EQ(error.rank(), buffer.rank());
      }
    }
    EXPECT_THROW(static_cast<void>(buffer.combine_input(dispatched.handle, 0)), Error);
    EXPECT_THROW(static_cast<void>(buffer.combine_input(dispatched.handle, 8, DataType::kInt32)), Error);
    EXPECT_THROW(static_cast<void>(buffer.combine_input({}, 8)), Error);
    run_round_trip(buffer);
  });
}

TEST(Capacity, WorstCaseCountBeyondAllMemory) {
  for (const std::int64_t count : {std::int64_t{1} << 40U, std::int64_t{1} << 60U, INT64_MAX}) {
    const auto attempts = attempt(kRanks, roomy_options(), [&](Buffer& buffer) {
      DispatchInput input = RoundTrip(buffer.rank(), kRanks).input();
      input.num_worst_tokens = buffer.rank() == kSmallRank ? count : 30;
      static_cast<void>(buffer.dispatch(input));
    });
    expect_refusal(attempts, {ErrorCode::kCapacity, kSmallRank, {"no room"}});
  }
}

TEST(Capacity, WorstCaseCountTooSmall) {
  for (const Completion completion : {Completion::kSynchronous, Completion::kAsynchronous}) {
    const auto attempts = attempt(kRanks, roomy_options(), [&](Buffer& buffer) {
      RoundTripShape shape;
      shape.num_tokens = 20;
      DispatchInput input = RoundTrip(buffer.rank(), kRanks, shape).input();
      input.num_worst_tokens = buffer.rank() == kSmallRank ? 3 : 100;
      OperationOptions options;
      options.completion = completion;
      buffer.dispatch(input, options).event.wait();
    });
    expect_refusal(attempts, {ErrorCode::kCapacity, kSmallRank, {"num_worst_tokens is 3", "would receive"}});
  }
}

}  // namespace
}  // namespace crossdock::testing
