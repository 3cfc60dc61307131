// A rank's process is stopped in the middle of whatever it does, until the others have lost it, and then goes on: they
// decide alike, it learns what happened, and takes part again when they let it in.
#include <unistd.h>

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstring>
#include <functional>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include <fmt/format.h>

#include "core/refusal.hpp"
#include "core/round_trip.hpp"
#include "support/ranks.hpp"

namespace crossdock::testing {
namespace {

constexpr int kRanks = 4;
constexpr int kVictim = 1;
constexpr int kRounds = 5;
constexpr Milliseconds kTimeout{250};
/// After a loss ranks are patient for a second more (docs/semantics.md), and the round before ended with one.
constexpr Milliseconds kStopped{1500};
constexpr Milliseconds kMeeting{20'000};

template <typename... Args>
void demand(bool condition, fmt::format_string<Args...> text, Args&&... args) {
  if (!condition) throw std::runtime_error(fmt::format(text, std::forward<Args>(args)...));
}

std::vector<std::string> gather(Bootstrap& bootstrap, const std::string& mine) {
  std::vector<std::string> all;
  for (const Bytes& bytes : bootstrap.all_gather(std::as_bytes(std::span(mine)), kMeeting)) {
    all.emplace_back(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  }
  return all;
}

RoundTripShape masked_shape() {
  RoundTripShape shape;
  shape.masked = {kVictim};
  return shape;
}

template <typename Output>
bool is_right(const Output& output, const RoundTrip& trip) {
  try {
    trip.check(output);
    return true;
  } catch (const std::runtime_error&) {
    return false;
  }
}

/// 'F' if the output is that of all ranks, 'M' if it is that without the victim, '=' if these are equal.
template <typename Output>
char kind_of(const Output& output, int rank) {
  const bool is_full = is_right(output, RoundTrip(rank, kRanks));
  const bool is_masked = is_right(output, RoundTrip(rank, kRanks, masked_shape()));
  demand(is_full || is_masked, "rank {} got something else", rank);
  if (is_full && is_masked) return '=';
  return is_full ? 'F' : 'M';
}

bool is_alike(const std::string& outcomes, const std::string& others) {
  const auto fit = [](char a, char b) { return a == b || (a == '=' && b != 'L') || (b == '=' && a != 'L'); };
  return std::ranges::equal(outcomes, others, fit);
}

/// A letter for each operation, 'L' for one that was lost.
std::string run_until_lost(Buffer& buffer) {
  constexpr int kMore = 40;
  const DispatchInput input = RoundTrip(buffer.rank(), kRanks).input();
  std::string outcomes;
  for (int more = 0; more < kMore; more += buffer.masked_ranks().empty() ? 0 : 1) {
    try {
      const DispatchOutput dispatched = buffer.dispatch(input);
      outcomes += kind_of(dispatched, buffer.rank());
      outcomes += kind_of(buffer.combine(combine_of(dispatched)), buffer.rank());
    } catch (const Error& error) {
      demand(error.code() == ErrorCode::kPeerLost && error.rank() == kVictim, "says: {}", error.what());
      outcomes += 'L';
    }
  }
  demand(buffer.masked_ranks() == std::vector<int>{kVictim}, "masks other ranks");
  return outcomes;
}

/// The victim's part: what it finishes is right, until it learns that it is masked.
void run_until_masked(Buffer& buffer) {
  const RoundTrip trip(buffer.rank(), kRanks);
  const DispatchInput input = trip.input();
  try {
    for (;;) {
      const DispatchOutput dispatched = buffer.dispatch(input);
      trip.check(dispatched);
      trip.check(buffer.combine(combine_of(dispatched)));
    }
  } catch (const Error& error) {
    demand(error.code() == ErrorCode::kState, "says: {}", error.what());
  }
  demand(buffer.is_available(), "a masked rank's buffer is broken");
}

void stop_for_a_while(pid_t pid, std::chrono::microseconds after) {
  std::this_thread::sleep_for(after);
  ::kill(pid, SIGSTOP);
  std::this_thread::sleep_for(kStopped);
  ::kill(pid, SIGCONT);
}

void run_round(Bootstrap& bootstrap, Buffer& buffer, pid_t victim, int round) {
  bootstrap.barrier(kMeeting);
  std::optional<std::jthread> stopper;
  if (buffer.rank() == 0) stopper.emplace(stop_for_a_while, victim, std::chrono::microseconds(4000 + 3100 * round));
  std::string outcomes;
  if (buffer.rank() == kVictim) {
    run_until_masked(buffer);
  } else {
    outcomes = run_until_lost(buffer);
  }
  stopper.reset();
  const std::vector<std::string> all = gather(bootstrap, outcomes);
  for (int rank = 2; rank < kRanks; ++rank) {
    const std::string& other = all[static_cast<std::size_t>(rank)];
    demand(is_alike(other, all[0]), "round {}: rank {} has {}, rank 0 has {}", round, rank, other, all[0]);
  }
  buffer.clear_masks();
  bootstrap.barrier(kMeeting);
  for (int i = 0; i < 20; ++i) run_round_trip(buffer);
  demand(buffer.masked_ranks().empty(), "a rank was lost again");
  demand(buffer.arena_bytes_free() == buffer.arena_bytes_total(), "a slab is lost");
}

TEST(StoppedRank, IsLostForAllAlikeAndComesBack) {
  const auto statuses = run_as_processes(kRanks, [](const std::shared_ptr<Bootstrap>& bootstrap) {
    const pid_t mine = ::getpid();
    std::string text(sizeof(mine), '\0');
    std::memcpy(text.data(), &mine, sizeof(mine));
    pid_t victim = 0;
    std::memcpy(&victim, gather(*bootstrap, text)[kVictim].data(), sizeof(victim));
    BufferOptions options = roomy_options();
    options.mask_lost_ranks = true;
    // The victim never loses patience: the others are still there when it goes on.
    options.timeout = bootstrap->rank() == kVictim ? Milliseconds(100'000) : kTimeout;
    Buffer buffer(bootstrap, options);
    for (int round = 0; round < kRounds; ++round) run_round(*bootstrap, buffer, victim, round);
    bootstrap->barrier(kMeeting);
  });
  for (const ExitStatus& status : statuses) EXPECT_EQ(status, ExitStatus{});
}

}  // namespace
}  // namespace crossdock::testing
