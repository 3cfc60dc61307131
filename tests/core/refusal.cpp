#include "core/refusal.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <stdexcept>

#include "core/round_trip.hpp"
#include "support/ranks.hpp"

namespace crossdock::testing {

std::vector<Attempt> attempt(int num_ranks, const BufferOptions& options, const std::function<void(Buffer&)>& body) {
  std::vector<Attempt> attempts(static_cast<std::size_t>(num_ranks));
  run_as_threads(num_ranks, [&](const std::shared_ptr<Bootstrap>& bootstrap) {
    Buffer buffer(bootstrap, options);
    const std::size_t bytes_free = buffer.arena_bytes_free();
    Attempt& mine = attempts[static_cast<std::size_t>(buffer.rank())];
    const auto begin = std::chrono::steady_clock::now();
    try {
      body(buffer);
    } catch (const Error& error) {
      mine.error = error;
    }
    mine.milliseconds = std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - begin).count();
    if (!buffer.is_available()) throw std::runtime_error("the buffer broke");
    if (buffer.arena_bytes_free() != bytes_free) throw std::runtime_error("a slab was lost");
    run_round_trip(buffer);
  });
  return attempts;
}

void expect_refusal(const std::vector<Attempt>& attempts, const Refusal& refusal) {
  constexpr double kSoon = 1000;  // milliseconds
  for (std::size_t rank = 0; rank < attempts.size(); ++rank) {
    SCOPED_TRACE("on rank " + std::to_string(rank));
    ASSERT_TRUE(attempts[rank].error.has_value()) << "nothing was thrown";
    const Error& error = *attempts[rank].error;
    EXPECT_EQ(name_of(error.code()), name_of(refusal.code)) << error.what();
    EXPECT_EQ(error.rank(), refusal.rank) << error.what();
    EXPECT_THAT(error.what(), ::testing::HasSubstr("rank " + std::to_string(refusal.rank)));
    for (const std::string& text : refusal.texts) EXPECT_THAT(error.what(), ::testing::HasSubstr(text));
    EXPECT_LT(attempts[rank].milliseconds, kSoon);
  }
}

BufferOptions roomy_options() {
  BufferOptions options;
  options.arena_bytes = std::size_t{1} << 20U;
  options.max_experts = 64;
  options.huge_pages = HugePages::kNever;
  return options;
}

}  // namespace crossdock::testing
