#include "core/low_latency_schedule.hpp"

#include <algorithm>
#include <array>
#include <deque>
#include <initializer_list>
#include <memory>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>

#include "core/low_latency_run.hpp"
#include "core/round_trip.hpp"
#include "support/draw.hpp"

namespace crossdock::testing {

namespace {

using Action = LowLatencySchedule::Action;
using Step = LowLatencySchedule::Step;

constexpr std::size_t kMostInFlight = 8;
/// An operation can only begin if all of 16 before it have ended on all ranks.
constexpr int kMostApart = 12;

/// The other ranks read the rows in place, so the operation is over for this rank when it is for all.
bool waits_for_all(const LowLatencyWorld& world) {
  for (int rank = 0; rank < world.num_ranks(); ++rank) {
    if (world.source(rank) == LowLatencySource::kArena) return true;
  }
  return false;
}

class ScheduleRun {
 public:
  ScheduleRun(Buffer& buffer, const LowLatencySchedule& schedule, const TensorPlace& place)
      : buffer_(buffer),
        place_(place),
        schedule_(schedule),
        draw_(schedule.seed * 1000 + static_cast<std::uint64_t>(buffer.rank())),
        waited_(place.place(make_waited(buffer.num_ranks()))),
        runs_(schedule.worlds.size()) {}

  void run() {
    for (const Step& step : schedule_.steps) {
      if (step.action == Action::kThroughput) {
        run_throughput(step);
      } else {
        start(step);
      }
    }
    while (!in_flight_.empty()) receive_oldest();
    check_waited();
  }

 private:
  struct InFlight {
    Step step;
    int number = 0;  ///< among this rank's operations
    bool is_hooked = false;
  };

  void run_throughput(const Step& step) {
    receive_before_blocking();
    make_room();
    num_operations_ += 2;
    RoundTripShape shape;
    shape.salt = static_cast<int>(step.world);
    const OperationOptions options = make_options({Completion::kSynchronous, Completion::kAsynchronous});
    run_round_trip(buffer_, shape, options);
  }

  void start(const Step& step) {
    if (step.action == Action::kCombine) receive_dispatch_of(step.world);
    make_room();
    ++num_operations_;
    const OperationOptions options =
        make_options({Completion::kSynchronous, Completion::kAsynchronous, Completion::kHook, Completion::kHook});
    // On a stream even a hook's second half comes after what was queued before it.
    const bool blocks = place_.stream().native != nullptr ? options.completion != Completion::kHook
                                                          : options.completion == Completion::kSynchronous;
    if (blocks) receive_before_blocking();
    auto& run = runs_[step.world];
    if (step.action == Action::kDispatch) {
      run.emplace(buffer_, schedule_.worlds[step.world], place_).dispatch(options);
    } else {
      run->combine(options);
    }
    in_flight_.push_back({step, num_operations_, options.completion == Completion::kHook});
    if (options.completion != Completion::kSynchronous) return;
    // Received already, whatever else is still to come.
    in_flight_.pop_back();
    receive(step);
  }

  void make_room() {
    while (in_flight_.size() >= kMostInFlight ||
           (!in_flight_.empty() && num_operations_ - in_flight_.front().number >= kMostApart)) {
      receive_oldest();
    }
  }

  /// Others may wait in an operation for this rank's hook: it must not wait for their next one meanwhile.
  void receive_before_blocking() {
    const auto holds_up_others = [&](const InFlight& one) {
      return one.is_hooked && one.step.action == Action::kCombine && waits_for_all(schedule_.worlds[one.step.world]);
    };
    while (std::ranges::any_of(in_flight_, holds_up_others)) receive_oldest();
  }

  void receive_dispatch_of(std::size_t world) {
    const auto is_it = [&](const InFlight& one) {
      return one.step.action == Action::kDispatch && one.step.world == world;
    };
    while (std::ranges::any_of(in_flight_, is_it)) receive_oldest();
  }

  void receive_oldest() {
    const Step step = in_flight_.front().step;
    in_flight_.pop_front();
    receive(step);
  }

  void receive(const Step& step) {
    auto& run = runs_[step.world];
    if (step.action == Action::kDispatch) {
      run->receive_dispatch();
      run->check_dispatch();
    } else {
      run->receive_combine();
      run->check_combine();
      run.reset();  // gives its tensors back
    }
  }

  OperationOptions make_options(std::initializer_list<Completion> completions) {
    OperationOptions options;
    options.completion = draw_.one_of(completions);
    if (draw_.chance(50)) {
      options.wait_recv_cost_stats = waited_;
    }
    return options;
  }

  void check_waited() const {
    const Tensor fetched = place_.fetch(waited_);
    const std::span waited(fetched.data_as<std::int64_t>(), static_cast<std::size_t>(buffer_.num_ranks()));
    if (waited[static_cast<std::size_t>(buffer_.rank())] != 0) throw std::runtime_error("a rank has waited for itself");
    if (std::ranges::min(waited) < 0) throw std::runtime_error("a rank has waited for less than no time");
  }

  [[nodiscard]] static Tensor make_waited(int num_ranks) {
    auto waited = std::make_shared<std::vector<std::int64_t>>(static_cast<std::size_t>(num_ranks));
    return Tensor::own(waited, waited->data(), DataType::kInt64, std::array{std::int64_t{num_ranks}});
  }

  Buffer& buffer_;
  const TensorPlace& place_;
  const LowLatencySchedule& schedule_;
  Draw draw_;
  Tensor waited_;  ///< nanoseconds for each rank, in all operations
  std::vector<std::optional<LowLatencyRun>> runs_;
  std::deque<InFlight> in_flight_;
  int num_operations_ = 0;
};

}  // namespace

LowLatencySchedule make_low_latency_schedule(std::uint64_t seed, int num_ranks, bool is_plain) {
  Draw draw(seed);
  LowLatencySchedule schedule;
  schedule.seed = seed;
  if (num_ranks == 0) num_ranks = static_cast<int>(draw.between(1, 9));
  const LowLatencyBounds bounds{.num_ranks = num_ranks, .max_experts = 20, .max_hidden = 300, .max_tokens = 10};
  const auto num_worlds = static_cast<std::size_t>(draw.between(4, 12));
  std::vector<std::size_t> dispatched;  // and not combined
  while (schedule.worlds.size() < num_worlds || !dispatched.empty()) {
    const bool is_full = dispatched.size() == kMostInFlight || schedule.worlds.size() == num_worlds;
    if (draw.chance(15) && !is_plain) {
      schedule.steps.push_back({Action::kThroughput, schedule.steps.size()});
    } else if (!is_full && (dispatched.empty() || draw.chance(60))) {
      dispatched.push_back(schedule.worlds.size());
      schedule.steps.push_back({Action::kDispatch, schedule.worlds.size()});
      schedule.worlds.push_back(make_low_latency_world(draw.bits(), bounds));
    } else if (!dispatched.empty()) {
      const auto which = dispatched.begin() + draw.between(0, static_cast<std::int64_t>(dispatched.size()) - 1);
      schedule.steps.push_back({Action::kCombine, *which});
      dispatched.erase(which);
    }
  }
  return schedule;
}

void run_low_latency_schedule(Buffer& buffer, const LowLatencySchedule& schedule, const TensorPlace& place) {
  try {
    ScheduleRun(buffer, schedule, place).run();
  } catch (const std::exception& error) {
    throw std::runtime_error("schedule of seed " + std::to_string(schedule.seed) + ": " + error.what());
  }
}

BufferOptions low_latency_schedule_options() {
  BufferOptions options;
  options.arena_bytes = std::size_t{4} << 20U;
  options.max_experts = 64;
  options.timeout = Milliseconds(20'000);
  options.huge_pages = HugePages::kNever;
  return options;
}

}  // namespace crossdock::testing
