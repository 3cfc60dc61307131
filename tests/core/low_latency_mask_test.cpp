// A rank that the others mask in each phase of a low-latency pair, in all formats, against the oracle bit for bit.
#include <gtest/gtest.h>

#include <barrier>
#include <functional>
#include <string>
#include <vector>

#include <crossdock/error.hpp>

#include "core/low_latency_run.hpp"
#include "core/low_latency_schedule.hpp"
#include "support/ranks.hpp"

namespace crossdock::testing {
namespace {

constexpr int kRanks = 4;
constexpr int kMasked = 1;

enum class Moment : std::uint8_t { kBeforeDispatch, kInDispatch, kBeforeCombine, kInCombine, kAfterCombine };

std::string name_of_test(const ::testing::TestParamInfo<Moment>& test) {
  switch (test.param) {
    case Moment::kBeforeDispatch: return "BeforeDispatch";
    case Moment::kInDispatch: return "BetweenTheHalvesOfDispatch";
    case Moment::kBeforeCombine: return "BeforeCombine";
    case Moment::kInCombine: return "BetweenTheHalvesOfCombine";
    case Moment::kAfterCombine: return "AfterCombine";
  }
  return "";
}

const std::vector<int> kNobody{};
const std::vector<int> kThatRank{kMasked};

/// A masked rank may find that the others' records of then are gone.
void end_what_began(const std::function<void()>& receive) {
  try {
    receive();
  } catch (const Error& error) {
    if (error.code() != ErrorCode::kState) throw;
  }
}

class LowLatencyMaskIn : public ::testing::TestWithParam<Moment> {
 protected:
  /// One rank until it has come to the moment, or to the end.
  static void run_rank(Buffer& buffer, const LowLatencyWorld& world, std::barrier<>& meeting) {
    const bool is_masked = buffer.rank() == kMasked;
    const auto sent_with = [](Moment sent) { return GetParam() < sent ? kThatRank : kNobody; };
    const LowLatencyWorld expected = with_masked(world, sent_with(Moment::kInDispatch), sent_with(Moment::kInCombine));
    LowLatencyRun run(buffer, world, expected);
    OperationOptions hooked;
    hooked.completion = Completion::kHook;
    const auto comes_to = [&](Moment moment) {
      if (moment != GetParam()) return false;
      meeting.arrive_and_wait();
      if (!is_masked) buffer.mask_rank(kMasked);
      return is_masked;
    };
    if (comes_to(Moment::kBeforeDispatch)) return;
    run.dispatch(hooked);
    if (comes_to(Moment::kInDispatch)) return end_what_began([&] { run.receive_dispatch(); });
    run.receive_dispatch();
    run.check_dispatch();
    if (comes_to(Moment::kBeforeCombine)) return;
    run.combine(hooked);
    if (comes_to(Moment::kInCombine)) return end_what_began([&] { run.receive_combine(); });
    run.receive_combine();
    run.check_combine();
    static_cast<void>(comes_to(Moment::kAfterCombine));
  }
};

TEST_P(LowLatencyMaskIn, EqualsTheOracleFromTheNextOperationOn) {
  for (std::uint64_t seed = 1; seed <= 12; ++seed) {
    const LowLatencyWorld world = make_low_latency_world(seed, {.num_ranks = kRanks, .max_hidden = 300});
    const LowLatencyWorld without = with_masked(world, kThatRank, kThatRank);
    std::barrier<> meeting(kRanks);
    const auto body = [&](const std::shared_ptr<Bootstrap>& bootstrap) {
      Buffer buffer(bootstrap, low_latency_schedule_options());
      run_rank(buffer, world, meeting);
      if (buffer.rank() != kMasked) {
        for (int i = 0; i < 3; ++i) LowLatencyRun(buffer, world, without).run();
      }
      meeting.arrive_and_wait();
      buffer.clear_masks();
      meeting.arrive_and_wait();
      for (int i = 0; i < 3; ++i) LowLatencyRun(buffer, world).run();
    };
    ASSERT_NO_THROW(run_as_threads(kRanks, body)) << world.description();
  }
}

INSTANTIATE_TEST_SUITE_P(EveryPhase, LowLatencyMaskIn,
                         ::testing::Values(Moment::kBeforeDispatch, Moment::kInDispatch, Moment::kBeforeCombine,
                                           Moment::kInCombine, Moment::kAfterCombine),
                         name_of_test);

}  // namespace
}  // namespace crossdock::testing
