// Making a buffer with wrong options, or with options that differ between ranks.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "core/refusal.hpp"
#include "core/round_trip.hpp"
#include "support/ranks.hpp"

namespace crossdock::testing {
namespace {

constexpr int kRanks = 3;
constexpr int kBadRank = 1;

using Spoil = std::function<void(BufferOptions&)>;

/// Tries to make a buffer on every rank, with spoiled options on one, and then, as the group is still whole, another.
std::vector<Attempt> attempt_making(const Spoil& spoil) {
  std::vector<Attempt> attempts(kRanks);
  run_as_threads(kRanks, [&](const std::shared_ptr<Bootstrap>& bootstrap) {
    Attempt& mine = attempts[static_cast<std::size_t>(bootstrap->rank())];
    BufferOptions options = roomy_options();
    if (bootstrap->rank() == kBadRank) spoil(options);
    const auto begin = std::chrono::steady_clock::now();
    try {
      const Buffer buffer(bootstrap, options);
    } catch (const Error& error) {
      mine.error = error;
    }
    mine.milliseconds = std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - begin).count();
    Buffer buffer(bootstrap, roomy_options());
    run_round_trip(buffer);
  });
  return attempts;
}

void expect_refused(const Spoil& spoil, ErrorCode code, const std::vector<std::string>& texts) {
  expect_refusal(attempt_making(spoil), {code, kBadRank, texts});
}

TEST(BadOptions, ArenaOfNoBytes) {
  expect_refused([](BufferOptions& o) { o.arena_bytes = 0; }, ErrorCode::kInvalidArgument,
                 {"arena of 0 bytes", "get_arena_size_hint"});
}

TEST(BadOptions, ArenaLargerThanTheAddressSpace) {
  expect_refused([](BufferOptions& o) { o.arena_bytes = SIZE_MAX - 10; }, ErrorCode::kInvalidArgument,
                 {"does not fit the address space"});
}

TEST(BadOptions, NoExperts) {
  expect_refused([](BufferOptions& o) { o.max_experts = 0; }, ErrorCode::kInvalidArgument,
                 {"max_experts is 0", "at least 1"});
}

TEST(BadOptions, NodesOfFewerRanks) {
  expect_refused([](BufferOptions& o) { o.ranks_per_node = 2; }, ErrorCode::kInvalidArgument,
                 {"ranks_per_node is 2 for 3 ranks", "at least 3"});
}

TEST(BadOptions, NegativeTimeout) {
  expect_refused([](BufferOptions& o) { o.timeout = Milliseconds(-1); }, ErrorCode::kInvalidArgument,
                 {"timeout", "-1 ms"});
}

TEST(DifferingOptions, MaxExperts) {
  expect_refused([](BufferOptions& o) { o.max_experts = 65; }, ErrorCode::kMismatch,
                 {"max_experts", "rank 0 has 64", "rank 1 has 65"});
}

TEST(DifferingOptions, RanksPerNode) {
  expect_refused([](BufferOptions& o) { o.ranks_per_node = 3; }, ErrorCode::kMismatch,
                 {"ranks_per_node", "rank 0 has 0", "rank 1 has 3"});
}

TEST(DifferingOptions, ArenasMayDiffer) {
  for (const Attempt& made : attempt_making([](BufferOptions& o) { o.arena_bytes *= 3; })) {
    EXPECT_FALSE(made.error.has_value());
  }
}

TEST(BadOptions, CudaDeviceIsNotThere) {
  run_as_threads(kRanks, [](const std::shared_ptr<Bootstrap>& bootstrap) {
    BufferOptions options = roomy_options();
    options.device = {DeviceType::kCuda, 1000};
    try {
      const Buffer buffer(bootstrap, options);
      ADD_FAILURE() << "a buffer on CUDA was made";
    } catch (const Error& error) {
      EXPECT_EQ(name_of(error.code()), name_of(ErrorCode::kUnsupported));
      EXPECT_THAT(error.what(), ::testing::HasSubstr("CUDA"));
      EXPECT_THAT(error.what(), ::testing::HasSubstr("kHost"));
    }
    Buffer buffer(bootstrap, roomy_options());
    run_round_trip(buffer);
  });
}

TEST(BadOptions, NoBootstrap) {
  try {
    const Buffer buffer(nullptr, roomy_options());
    FAIL() << "a buffer without a bootstrap was made";
  } catch (const Error& error) {
    EXPECT_EQ(name_of(error.code()), name_of(ErrorCode::kInvalidArgument));
    EXPECT_THAT(error.what(), ::testing::HasSubstr("bootstrap"));
  }
}

TEST(BadOptions, RankThatNeverComes) {
  const auto bootstraps = make_in_process_bootstraps(2);
  BufferOptions options = roomy_options();
  options.setup_timeout = Milliseconds(50);
  try {
    const Buffer buffer(bootstraps[0], options);
    FAIL() << "a buffer without rank 1 was made";
  } catch (const Error& error) {
    EXPECT_EQ(name_of(error.code()), name_of(ErrorCode::kTimeout));
    EXPECT_THAT(error.what(), ::testing::ContainsRegex("[0-9]+ ms"));  // what was left of it after making the window
    EXPECT_THAT(error.what(), ::testing::ContainsRegex("rank.* 1"));
  }
}

TEST(Arena, IsAtLeastAsLargeAsAsked) {
  run_as_threads(2, [](const std::shared_ptr<Bootstrap>& bootstrap) {
    for (const std::size_t bytes : {std::size_t{1}, std::size_t{4095}, std::size_t{4097}, std::size_t{1'000'000}}) {
      BufferOptions options = roomy_options();
      options.arena_bytes = bytes;
      const Buffer buffer(bootstrap, options);
      EXPECT_GE(buffer.arena_bytes_total(), bytes);
      EXPECT_EQ(buffer.arena_bytes_free(), buffer.arena_bytes_total());
    }
  });
}

}  // namespace
}  // namespace crossdock::testing
