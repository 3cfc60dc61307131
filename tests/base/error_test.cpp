#include "base/error.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

namespace crossdock {
namespace {

using ::testing::EndsWith;

TEST(Error, FormatsItsMessageAndKnowsItsPlace) {
  const unsigned line = __LINE__ + 1;
  const Error error = make_error(ErrorCode::kCapacity, "{} bytes, {} would do", 10, 20);
  EXPECT_STREQ(error.what(), "10 bytes, 20 would do");
  EXPECT_EQ(error.code(), ErrorCode::kCapacity);
  EXPECT_EQ(error.where().line(), line);
  EXPECT_THAT(error.where().file_name(), EndsWith("error_test.cpp"));
  EXPECT_EQ(error.rank(), -1);
  EXPECT_EQ(error.system_error(), 0);
  EXPECT_FALSE(error.wait().has_value());
}

TEST(Error, IsRaisedByRequireOnlyIfTheConditionFails) {
  EXPECT_NO_THROW(require(true, "never seen {}", 1));
  try {
    require(false, "num_topk is {}", -1);
    FAIL() << "no error";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kInvalidArgument);
    EXPECT_STREQ(error.what(), "num_topk is -1");
    EXPECT_THAT(error.where().file_name(), EndsWith("error_test.cpp"));
  }
}

TEST(Error, KeepsTheErrorOfTheSystem) {
  const Error error = system_error("open of a file", ENOENT);
  EXPECT_EQ(error.code(), ErrorCode::kSystem);
  EXPECT_EQ(error.system_error(), ENOENT);
  EXPECT_STREQ(error.what(), "open of a file: No such file or directory");
}

TEST(Error, NamesTheRankWaitedFor) {
  Error error(ErrorCode::kTimeout, "rank 3 did not come");
  error.with_wait({.operation = "dispatch", .phase = "announce", .epoch = 7, .rank = 3, .expected = 8, .seen = 6});
  EXPECT_EQ(error.rank(), 3);
  ASSERT_TRUE(error.wait().has_value());
  EXPECT_EQ(error.wait()->operation, "dispatch");
  EXPECT_EQ(error.wait()->phase, "announce");
  EXPECT_EQ(error.wait()->epoch, 7U);
  EXPECT_EQ(error.wait()->expected, 8U);
  EXPECT_EQ(error.wait()->seen, 6U);
  EXPECT_EQ(error.with_rank(5).rank(), 5);
}

TEST(Error, IsARuntimeError) { EXPECT_THROW(throw Error(ErrorCode::kState, "destroyed"), std::runtime_error); }

TEST(ErrorCode, HasNamesOfItsOwn) {
  std::set<std::string> names;
  for (int code = 0; code <= static_cast<int>(ErrorCode::kUnsupported); ++code) {
    names.emplace(name_of(static_cast<ErrorCode>(code)));
  }
  EXPECT_EQ(names.size(), 10U);
  EXPECT_FALSE(names.contains("unknown"));
  EXPECT_EQ(name_of(ErrorCode::kPeerLost), "peer lost");
}

}  // namespace
}  // namespace crossdock
