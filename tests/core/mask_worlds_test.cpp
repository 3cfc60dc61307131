// Random worlds in which some ranks are masked: the others get what the oracle says of a world without those ranks'
// tokens and experts.
#include <gtest/gtest.h>

#include <algorithm>
#include <barrier>
#include <string>
#include <vector>

#include <crossdock/error.hpp>

#include "core/masked_world.hpp"
#include "core/world_run.hpp"
#include "support/draw.hpp"
#include "support/ranks.hpp"

namespace crossdock::testing {
namespace {

struct MaskedCase {
  RandomWorld world;
  RandomWorld expected;
  std::vector<int> masked;
};

/// At least one rank is masked, and at least one is not.
MaskedCase make_case(std::uint64_t seed) {
  MaskedCase result{make_random_world(seed), {}, {}};
  Draw draw(seed);
  const int num_ranks = result.world.num_ranks();
  const auto spared = static_cast<int>(draw.between(0, num_ranks - 1));
  const auto chosen = static_cast<int>((spared + draw.between(1, num_ranks - 1)) % num_ranks);
  for (int rank = 0; rank < num_ranks; ++rank) {
    if (rank != spared && (rank == chosen || draw.chance(25))) result.masked.push_back(rank);
  }
  result.expected = masked_world(result.world, result.masked);
  return result;
}

bool is_masked(const MaskedCase& masked_case, int rank) {
  return std::ranges::find(masked_case.masked, rank) != masked_case.masked.end();
}

void expect_no_differences(const std::vector<std::string>& differences, const MaskedCase& masked_case, int rank) {
  for (const std::string& line : differences) {
    ADD_FAILURE() << masked_case.world.description() << "\n  rank " << rank << ": " << line;
  }
}

/// Masked, and then let in again: the same world twice.
void run_case(Buffer& buffer, const MaskedCase& masked_case, std::barrier<>& barrier) {
  const int rank = buffer.rank();
  if (is_masked(masked_case, rank)) {
    barrier.arrive_and_wait();
    try {
      static_cast<void>(run_world(buffer, masked_case.world));
      ADD_FAILURE() << "a masked rank took part";
    } catch (const Error& error) {
      EXPECT_EQ(name_of(error.code()), name_of(ErrorCode::kState)) << error.what();
    }
  } else {
    for (const int other : masked_case.masked) buffer.mask_rank(other);
    EXPECT_EQ(buffer.masked_ranks(), masked_case.masked);
    barrier.arrive_and_wait();
    expect_no_differences(run_world(buffer, masked_case.world, masked_case.expected), masked_case, rank);
    barrier.arrive_and_wait();
    buffer.clear_masks();
    EXPECT_TRUE(buffer.masked_ranks().empty());
    barrier.arrive_and_wait();
    return expect_no_differences(run_world(buffer, masked_case.world), masked_case, rank);
  }
  barrier.arrive_and_wait();
  barrier.arrive_and_wait();
  expect_no_differences(run_world(buffer, masked_case.world), masked_case, rank);
}

class MaskedWorlds : public ::testing::TestWithParam<int> {};

TEST_P(MaskedWorlds, EqualTheOracle) {
  constexpr std::size_t kWorlds = 30;
  std::vector<MaskedCase> cases;
  for (std::uint64_t seed = 1; cases.size() < kWorlds; ++seed) {
    if (num_ranks_of(seed) == GetParam()) cases.push_back(make_case(seed));
  }
  std::barrier<> barrier(GetParam());
  run_as_threads(GetParam(), [&](const std::shared_ptr<Bootstrap>& bootstrap) {
    Buffer buffer(bootstrap, buffer_options_for(GetParam()));
    for (const MaskedCase& masked_case : cases) run_case(buffer, masked_case, barrier);
    barrier.arrive_and_wait();
  });
}

INSTANTIATE_TEST_SUITE_P(Ranks, MaskedWorlds, ::testing::Values(2, 3, 5, 8));

}  // namespace
}  // namespace crossdock::testing
