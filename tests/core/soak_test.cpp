// A million small operations of every kind on one buffer: nothing may grow.
#include <unistd.h>

#include <gtest/gtest.h>

#include <cstdio>
#include <deque>
#include <fstream>
#include <optional>

#include "core/refusal.hpp"
#include "core/round_trip.hpp"
#include "support/draw.hpp"
#include "support/ranks.hpp"

namespace crossdock::testing {
namespace {

constexpr int kRanks = 4;
constexpr std::int64_t kOperations = 1'000'000;
constexpr std::uint64_t kSeed = 20;
constexpr std::size_t kMaxInFlight = 6;

/// Resident memory of this process.
std::size_t resident_bytes() {
  std::ifstream file("/proc/self/statm");
  std::size_t all = 0;
  std::size_t resident = 0;
  file >> all >> resident;
  return resident * static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
}

struct Pending {
  RoundTrip trip;
  DispatchInput input;
  DispatchOutput dispatched;
};

/// One rank's part. All ranks draw the same numbers and so do the same operations.
class Soak {
 public:
  explicit Soak(Buffer& buffer) : buffer_(buffer), draw_(kSeed) {}

  [[nodiscard]] std::int64_t operations() const { return operations_; }

  void step() {
    const auto choice = draw_.between(0, 9);
    if (pending_.size() == kMaxInFlight || (choice < 4 && !pending_.empty())) {
      combine();
    } else if (choice == 4 && !pending_.empty()) {
      dispatch_again();
    } else if (choice == 5) {
      be_refused();
    } else {
      dispatch();
    }
  }

  void finish() {
    while (!pending_.empty()) combine();
  }

 private:
  OperationOptions draw_options() {
    OperationOptions options;
    if (draw_.chance(30)) options.completion = Completion::kAsynchronous;
    return options;
  }

  void dispatch() {
    RoundTripShape shape;
    shape.num_tokens = draw_.between(0, 3);
    shape.hidden = draw_.between(1, 40);
    shape.num_topk = static_cast<int>(draw_.between(1, 4));
    shape.num_experts = static_cast<int>(draw_.between(1, 12));
    shape.num_scales = draw_.between(0, 2);
    shape.id_dtype = draw_.one_of({DataType::kInt64, DataType::kInt32});
    shape.dtype = draw_.one_of({DataType::kBfloat16, DataType::kFloat32});
    shape.salt = static_cast<int>(draw_.between(0, 100));
    RoundTrip trip(buffer_.rank(), kRanks, shape);
    DispatchInput input = trip.input();
    if (draw_.chance(20)) input.num_worst_tokens = 30;
    DispatchOutput dispatched = buffer_.dispatch(input, draw_options());
    pending_.push_back({trip, std::move(input), std::move(dispatched)});
    ++operations_;
  }

  void dispatch_again() {
    const Pending& any = pending_[static_cast<std::size_t>(draw_.between(0, std::ssize(pending_) - 1))];
    const DispatchOutput again = buffer_.dispatch(cached_of(any.input, any.dispatched), draw_options());
    again.event.wait();
    any.trip.check(again);
    ++operations_;
  }

  void combine() {
    const auto index = draw_.between(0, std::ssize(pending_) - 1);
    const Pending chosen = std::move(pending_[static_cast<std::size_t>(index)]);
    pending_.erase(pending_.begin() + index);
    CombineInput input = combine_of(chosen.dispatched);
    if (draw_.chance(50)) input.topk_weights = chosen.dispatched.recv_topk_weights;
    const CombineOutput combined = buffer_.combine(input, draw_options());
    combined.event.wait();
    chosen.trip.check(chosen.dispatched);
    chosen.trip.check(combined);
    ++operations_;
  }

  void be_refused() {
    DispatchInput input = RoundTrip(buffer_.rank(), kRanks).input();
    if (buffer_.rank() == draw_.between(0, kRanks - 1)) input.num_experts = 0;
    EXPECT_THROW(static_cast<void>(buffer_.dispatch(input)), Error);
    ++operations_;
  }

  Buffer& buffer_;
  Draw draw_;
  std::deque<Pending> pending_;
  std::int64_t operations_ = 0;
};

TEST(Soak, AMillionOperations) {
  std::printf("seed %llu\n", static_cast<unsigned long long>(kSeed));
  run_as_threads(kRanks, [](const std::shared_ptr<Bootstrap>& bootstrap) {
    Buffer buffer(bootstrap, roomy_options());
    const std::size_t bytes_free = buffer.arena_bytes_free();
    Soak soak(buffer);
    std::optional<std::size_t> resident_early;
    for (std::int64_t reported = 0; soak.operations() < kOperations;) {
      soak.step();
      if (soak.operations() - reported < kOperations / 20) continue;
      reported = soak.operations();
      if (!resident_early) resident_early = resident_bytes();
      if (buffer.rank() != 0) continue;
      std::printf("%lld operations, %zu MiB resident\n", static_cast<long long>(reported), resident_bytes() >> 20U);
      std::fflush(stdout);
    }
    soak.finish();
    EXPECT_EQ(buffer.arena_bytes_free(), bytes_free);
    constexpr std::size_t kSlack = std::size_t{8} << 20U;  // the allocator's own, of four threads
    EXPECT_LT(resident_bytes(), *resident_early + kSlack);
    run_round_trip(buffer);
  });
}

}  // namespace
}  // namespace crossdock::testing
