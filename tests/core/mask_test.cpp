// Masks that the caller sets: handles from before, disagreement, and ranks that are let in again.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <barrier>
#include <chrono>
#include <cstring>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "core/refusal.hpp"
#include "core/round_trip.hpp"
#include "core/tensors.hpp"
#include "support/ranks.hpp"

namespace crossdock::testing {
namespace {

constexpr int kRanks = 4;
constexpr int kMasked = 2;

using Clock = std::chrono::steady_clock;
using Body = std::function<void(Buffer&, const std::function<void()>& meet)>;

/// Ranks as threads that can meet at barriers. A rank that throws leaves them.
void run_ranks(const Body& body) {
  std::barrier<> barrier(kRanks);
  run_as_threads(kRanks, [&](const std::shared_ptr<Bootstrap>& bootstrap) {
    Buffer buffer(bootstrap, roomy_options());
    try {
      body(buffer, [&] { barrier.arrive_and_wait(); });
      barrier.arrive_and_wait();  // no rank leaves while another needs it
    } catch (...) {
      barrier.arrive_and_drop();
      throw;
    }
  });
}

/// Runs `call`, which must throw, and soon.
Error error_of(const std::function<void()>& call) {
  const auto begin = Clock::now();
  try {
    call();
  } catch (const Error& error) {
    EXPECT_LT(Clock::now() - begin, Milliseconds(2000)) << error.what();
    return error;
  }
  throw std::runtime_error("nothing was thrown");
}

void expect_error(const std::function<void()>& call, ErrorCode code, const std::vector<std::string>& texts) {
  const Error error = error_of(call);
  EXPECT_EQ(name_of(error.code()), name_of(code)) << error.what();
  for (const std::string& text : texts) EXPECT_THAT(error.what(), ::testing::HasSubstr(text));
}

RoundTripShape masked_shape(std::vector<int> masked = {kMasked}) {
  RoundTripShape shape;
  shape.masked = std::move(masked);
  return shape;
}

void dispatch(Buffer& buffer) { static_cast<void>(buffer.dispatch(RoundTrip(buffer.rank(), kRanks).input())); }

std::string names_masks_of(int rank) { return "rank " + std::to_string(rank) + " masks rank(s) 2"; }

/// Outside the arena.
Tensor copy_of(const Tensor& tensor) {
  Tensor copy = make_tensor(tensor.dtype(), {tensor.size(0), tensor.size(1)});
  if (tensor.num_bytes() > 0) std::memcpy(copy.data(), tensor.data(), tensor.num_bytes());
  return copy;
}

TEST(Mask, OfARankItselfOrOutOfRangeIsRefused) {
  run_ranks([](Buffer& buffer, const auto&) {
    expect_error([&] { buffer.mask_rank(buffer.rank()); }, ErrorCode::kInvalidArgument, {"cannot mask itself"});
    expect_error([&] { buffer.mask_rank(kRanks); }, ErrorCode::kInvalidArgument, {"rank is 4", "0 to 3"});
    expect_error([&] { buffer.mask_rank(-1, false); }, ErrorCode::kInvalidArgument, {"rank is -1"});
    run_round_trip(buffer);
    buffer.destroy();
    expect_error([&] { buffer.mask_rank(0); }, ErrorCode::kState, {"destroyed"});
    expect_error([&] { buffer.clear_masks(); }, ErrorCode::kState, {"destroyed"});
  });
}

TEST(Mask, OfTwoRanksLeavesTwo) {
  run_ranks([](Buffer& buffer, const auto& meet) {
    const std::vector<int> masked{0, 3};
    if (buffer.rank() == 0 || buffer.rank() == 3) return meet();
    for (const int rank : masked) buffer.mask_rank(rank);
    buffer.mask_rank(0);  // again
    for (int i = 0; i < 40; ++i) run_round_trip(buffer, masked_shape(masked));
    EXPECT_EQ(buffer.masked_ranks(), masked);
    meet();
  });
}

TEST(Mask, AppliesToAsynchronousOperationsCalledAfterIt) {
  run_ranks([](Buffer& buffer, const auto& meet) {
    const RoundTrip before(buffer.rank(), kRanks);
    const RoundTrip after(buffer.rank(), kRanks, masked_shape());
    OperationOptions options;
    options.completion = Completion::kAsynchronous;
    std::vector<DispatchOutput> outputs;
    for (int i = 0; i < 3; ++i) outputs.push_back(buffer.dispatch(before.input(), options));
    if (buffer.rank() == kMasked) {
      for (const auto& output : outputs) output.event.wait();
      return meet();
    }
    buffer.mask_rank(kMasked);  // the first three may still be under way
    for (int i = 0; i < 3; ++i) outputs.push_back(buffer.dispatch(after.input(), options));
    for (std::size_t i = 0; i < outputs.size(); ++i) {
      outputs[i].event.wait();
      (i < 3 ? before : after).check(outputs[i]);
    }
    meet();
  });
}

TEST(Mask, LeavesItsContributionsOutOfACombineOfAnEarlierDispatch) {
  run_ranks([](Buffer& buffer, const auto& meet) {
    const RoundTrip trip(buffer.rank(), kRanks);
    const DispatchInput input = trip.input();
    const DispatchOutput dispatched = buffer.dispatch(input);
    trip.check(dispatched);
    meet();
    if (buffer.rank() == kMasked) return meet();
    buffer.mask_rank(kMasked);
    CombineInput combine = combine_of(dispatched);
    combine.topk_weights = dispatched.recv_topk_weights;
    RoundTrip(buffer.rank(), kRanks, masked_shape()).check(buffer.combine(combine));
    combine.x = copy_of(dispatched.recv_x);
    RoundTrip(buffer.rank(), kRanks, masked_shape()).check(buffer.combine(combine));
    meet();
  });
}

TEST(Mask, LeavesItsRowsOfACachedDispatchEmpty) {
  run_ranks([](Buffer& buffer, const auto& meet) {
    const DispatchInput input = RoundTrip(buffer.rank(), kRanks).input();
    const DispatchOutput dispatched = buffer.dispatch(input);
    meet();
    if (buffer.rank() == kMasked) return meet();
    buffer.mask_rank(kMasked);
    const DispatchOutput again = buffer.dispatch(cached_of(input, dispatched));
    ASSERT_EQ(again.recv_x.shape().size(), 2U);
    ASSERT_EQ(again.recv_x.size(0), dispatched.recv_x.size(0));
    const Tensor prefix = dispatched.handle.rank_prefix_matrix();
    const auto* ends = prefix.data_as<std::int32_t>();
    const std::int64_t begin = ends[(kMasked - 1) * kRanks + buffer.rank()];
    const std::int64_t end = ends[kMasked * kRanks + buffer.rank()];
    const std::int64_t hidden = again.recv_x.size(1);
    for (std::int64_t i = 0; i < again.recv_x.num_elements(); ++i) {
      const bool is_absent = i / hidden >= begin && i / hidden < end;
      ASSERT_EQ(again.recv_x.data_as<std::uint16_t>()[i], is_absent ? 0 : dispatched.recv_x.data_as<std::uint16_t>()[i])
          << "element " << i;
    }
    RoundTrip(buffer.rank(), kRanks, masked_shape()).check(buffer.combine(combine_of(again)));
    meet();
  });
}

TEST(Mask, DisagreementNamesTwoRanksAndTheGroupGoesOn) {
  run_ranks([](Buffer& buffer, const auto& meet) {
    run_round_trip(buffer);
    meet();
    if (buffer.rank() == kMasked) {
      meet();
      meet();
      meet();
      expect_error([&] { dispatch(buffer); }, ErrorCode::kState, {"masked by rank(s) 0, 1, 3"});
      return meet();
    }
    if (buffer.rank() != 1) buffer.mask_rank(kMasked);
    meet();
    const std::string mine = buffer.rank() == 1 ? "rank 1 masks no rank" : names_masks_of(buffer.rank());
    expect_error([&] { dispatch(buffer); }, ErrorCode::kMismatch, {"dispatch", "masked ranks", mine});
    EXPECT_TRUE(buffer.is_available());
    meet();
    if (buffer.rank() == 1) buffer.mask_rank(kMasked);
    run_round_trip(buffer, masked_shape());
    meet();
    meet();
  });
}

TEST(Mask, OfARankThatWaitsAlreadyEndsItsWait) {
  run_ranks([](Buffer& buffer, const auto& meet) {
    run_round_trip(buffer);
    if (buffer.rank() == kMasked) {
      expect_error([&] { dispatch(buffer); }, ErrorCode::kState, {"masked by rank(s)"});
      meet();
      return run_round_trip(buffer);
    }
    std::this_thread::sleep_for(Milliseconds(20));
    buffer.mask_rank(kMasked);
    run_round_trip(buffer, masked_shape());
    buffer.clear_masks();
    meet();
    run_round_trip(buffer);
  });
}

TEST(Mask, ClearedBeforeAnOperationChangesNothing) {
  run_ranks([](Buffer& buffer, const auto& meet) {
    run_round_trip(buffer);
    meet();
    if (buffer.rank() == 0) {  // no other rank need do the same
      buffer.mask_rank(kMasked);
      buffer.mask_rank(kMasked, false);
    }
    meet();
    for (int i = 0; i < 20; ++i) run_round_trip(buffer);
  });
}

TEST(Mask, LetInAgainItTakesPartInEverything) {
  run_ranks([](Buffer& buffer, const auto& meet) {
    for (int round = 0; round < 3; ++round) {
      const int absent = (kMasked + round) % kRanks;
      const int operations = 3 + 15 * round;  // more than there are slots, too
      meet();
      if (buffer.rank() == absent) {
        meet();
        expect_error([&] { dispatch(buffer); }, ErrorCode::kState, {"masked by rank(s)"});
        expect_error([&] { dispatch(buffer); }, ErrorCode::kState, {"dispatch", "takes part again"});
      } else {
        buffer.mask_rank(absent);
        meet();
        for (int i = 0; i < operations; ++i) run_round_trip(buffer, masked_shape({absent}));
      }
      meet();
      buffer.clear_masks();
      meet();
      for (int i = 0; i < 50; ++i) run_round_trip(buffer);
    }
  });
}

TEST(Mask, LetInByOneRankOnlyItIsStillMasked) {
  run_ranks([](Buffer& buffer, const auto& meet) {
    if (buffer.rank() == kMasked) {
      meet();
      expect_error([&] { dispatch(buffer); }, ErrorCode::kState, {"masked by rank(s) 1, 3"});
      meet();
      meet();
    } else {
      buffer.mask_rank(kMasked);
      run_round_trip(buffer, masked_shape());
      if (buffer.rank() == 0) buffer.mask_rank(kMasked, false);
      meet();
      meet();
      expect_error([&] { dispatch(buffer); }, ErrorCode::kMismatch, {"masked ranks"});
      buffer.clear_masks();
      meet();
    }
    for (int i = 0; i < 20; ++i) run_round_trip(buffer);
  });
}

/// A rank may be far ahead when it is masked: what it announced then counts for nothing when it comes back.
TEST(Mask, LetInAgainARankForgetsWhatItHadBegun) {
  run_ranks([](Buffer& buffer, const auto& meet) {
    run_round_trip(buffer);
    meet();
    if (buffer.rank() == kMasked) {
      OperationOptions options;
      options.completion = Completion::kAsynchronous;
      DispatchInput input = RoundTrip(buffer.rank(), kRanks).input();
      input.num_worst_tokens = 30;
      std::vector<DispatchOutput> outputs;
      for (int i = 0; i < 10; ++i) outputs.push_back(buffer.dispatch(input, options));
      meet();
      for (const DispatchOutput& output : outputs) {
        expect_error([&] { output.event.wait(); }, ErrorCode::kState, {"masked by rank(s)"});
      }
      meet();
    } else {
      meet();
      buffer.mask_rank(kMasked);
      run_round_trip(buffer, masked_shape());
      meet();
      buffer.clear_masks();
    }
    meet();
    for (int i = 0; i < 20; ++i) run_round_trip(buffer);
  });
}

}  // namespace
}  // namespace crossdock::testing
