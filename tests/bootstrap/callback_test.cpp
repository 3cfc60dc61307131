#include <mutex>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <crossdock/error.hpp>

#include "bootstrap/bootstrap_conformance.hpp"

namespace crossdock::bootstrap_test {

namespace {

using testing::HasSubstr;

/// An engine whose all-gather is an in-process group.
Group make_callback_group(int size) {
  Group result;
  for (const auto& engine : make_in_process_bootstraps(size)) {
    result.push_back(make_callback_bootstrap(
        {engine->rank(), size, [engine](auto mine) { return engine->all_gather(mine, Milliseconds(20'000)); }}));
  }
  return result;
}

/// A group of two whose engine returns whatever `gather` does.
std::shared_ptr<Bootstrap> with_engine(std::function<std::vector<Bytes>(Bytes mine)> gather) {
  return make_callback_bootstrap(
      {0, 2, [gather = std::move(gather)](auto mine) { return gather(Bytes(mine.begin(), mine.end())); }});
}

Bytes length_of(std::uint64_t length) {
  Bytes result(8);
  for (std::size_t i = 0; i < 8; ++i) result[i] = static_cast<std::byte>((length >> (8 * i)) & 0xFFU);
  return result;
}

void expect_bootstrap_error(Bootstrap& group, const std::string& text) {
  try {
    static_cast<void>(group.all_gather(to_bytes("abc"), Milliseconds(1000)));
    FAIL() << "no error";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kBootstrap) << error.what();
    EXPECT_THAT(error.what(), HasSubstr(text));
  }
}

}  // namespace

INSTANTIATE_TEST_SUITE_P(Callback, BootstrapConformance,
                         testing::Values(Implementation{"Callback", &make_callback_group}),
                         [](const auto& instance) { return instance.param.name; });

TEST(CallbackBootstrap, GivesTheEngineContributionsOfEqualLength) {
  std::mutex mutex;
  std::vector<std::size_t> lengths;
  Group group;
  for (const auto& engine : make_in_process_bootstraps(3)) {
    const auto gather = [&, engine](std::span<const std::byte> mine) {
      {
        const std::lock_guard lock(mutex);
        lengths.push_back(mine.size());
      }
      return engine->all_gather(mine, Milliseconds(20'000));
    };
    group.push_back(make_callback_bootstrap({engine->rank(), 3, gather}));
  }
  run_ranks(3, [&](int rank) {
    const auto index = static_cast<std::size_t>(rank);
    const auto result = group[index]->all_gather(Bytes(index * 10), Milliseconds(20'000));
    EXPECT_EQ(result[1].size(), 10U);
    EXPECT_EQ(result[2].size(), 20U);
  });
  EXPECT_THAT(lengths, testing::UnorderedElementsAre(8, 8, 8, 20, 20, 20));
}

TEST(CallbackBootstrap, RefusesTooFewEntries) {
  const auto group = with_engine([](const Bytes& mine) { return std::vector<Bytes>{mine}; });
  expect_bootstrap_error(*group, "rank 0: the all_gather callback returned 1 entries for 2 ranks");
}

TEST(CallbackBootstrap, RefusesTooManyEntries) {
  const auto group = with_engine([](const Bytes& mine) { return std::vector<Bytes>(3, mine); });
  expect_bootstrap_error(*group, "returned 3 entries for 2 ranks");
}

TEST(CallbackBootstrap, RefusesAnEntryOfAnotherLength) {
  const auto group = with_engine([](const Bytes& mine) { return std::vector<Bytes>{mine, Bytes(7)}; });
  expect_bootstrap_error(*group, "returned 7 bytes for rank 1; every rank contributes 8");
}

TEST(CallbackBootstrap, RefusesAnAbsurdLengthBeforeItAllocates) {
  const auto group = with_engine([](const Bytes& mine) { return std::vector<Bytes>{mine, length_of(~0ULL)}; });
  expect_bootstrap_error(*group, "rank 1 contributes 18446744073709551615 bytes; at most 16777216 are allowed");
}

TEST(CallbackBootstrap, RefusesEntriesInAnotherOrder) {
  const auto group = with_engine([](const Bytes& mine) { return std::vector<Bytes>{length_of(1), mine}; });
  expect_bootstrap_error(*group, "did not return entries in rank order");
}

TEST(CallbackBootstrap, LetsTheEnginesExceptionsThrough) {
  const auto group = with_engine([](const Bytes&) -> std::vector<Bytes> { throw std::domain_error("engine"); });
  EXPECT_THROW(static_cast<void>(group->all_gather({}, Milliseconds(1000))), std::domain_error);
  EXPECT_THROW(group->barrier(Milliseconds(1000)), std::domain_error);
}

TEST(CallbackBootstrap, RefusesImpossibleOptions) {
  const auto gather = [](auto) { return std::vector<Bytes>{}; };
  for (const CallbackBootstrapOptions& options :
       {CallbackBootstrapOptions{0, 0, gather}, {2, 2, gather}, {-1, 2, gather}, {0, 2, nullptr}}) {
    try {
      static_cast<void>(make_callback_bootstrap(options));
      FAIL() << "no error for rank " << options.rank << " of " << options.size;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kInvalidArgument);
    }
  }
}

}  // namespace crossdock::bootstrap_test
