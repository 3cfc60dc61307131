#include <crossdock/config.hpp>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>

#include <crossdock/error.hpp>

namespace crossdock {
namespace {

using ::testing::HasSubstr;

struct Row {
  int num_ranks;
  Config dispatch;
  Config combine;
};

// What the seed returns.
const Row kSeed[] = {
    {2, {24, 16, 256, 6, 128}, {24, 6, 256, 6, 128}},    {4, {24, 16, 256, 6, 128}, {24, 6, 256, 6, 128}},
    {8, {24, 6, 256, 6, 128}, {24, 6, 256, 6, 128}},     {16, {24, 16, 288, 20, 128}, {24, 2, 288, 28, 128}},
    {24, {24, 8, 288, 32, 128}, {24, 1, 288, 20, 128}},  {32, {24, 8, 288, 32, 128}, {24, 1, 288, 20, 128}},
    {64, {24, 20, 288, 28, 128}, {24, 1, 288, 20, 128}}, {128, {24, 20, 560, 32, 128}, {24, 1, 560, 12, 128}},
    {144, {24, 32, 720, 12, 128}, {24, 2, 720, 8, 128}}, {160, {24, 28, 720, 12, 128}, {24, 2, 720, 8, 128}},
};

TEST(Config, IsTheSeedsForItsRankCounts) {
  for (const Row& row : kSeed) {
    EXPECT_EQ(get_dispatch_config(row.num_ranks), row.dispatch) << row.num_ranks;
    EXPECT_EQ(get_combine_config(row.num_ranks), row.combine) << row.num_ranks;
  }
}

TEST(Config, IsThatOfTheNextListedCountElsewhere) {
  EXPECT_EQ(get_dispatch_config(1), get_dispatch_config(2));
  EXPECT_EQ(get_dispatch_config(3), get_dispatch_config(4));
  EXPECT_EQ(get_dispatch_config(5), get_dispatch_config(8));
  EXPECT_EQ(get_dispatch_config(48), get_dispatch_config(64));
  EXPECT_EQ(get_combine_config(129), get_combine_config(144));
  EXPECT_EQ(get_combine_config(161), get_combine_config(160));
  EXPECT_EQ(get_combine_config(std::numeric_limits<int>::max()), get_combine_config(160));
}

TEST(Config, IsValidForEveryRankCount) {
  for (int num_ranks = 1; num_ranks <= 200; ++num_ranks) {
    EXPECT_NO_THROW(get_dispatch_config(num_ranks, 20).validate()) << num_ranks;
    EXPECT_NO_THROW(get_combine_config(num_ranks, 0).validate()) << num_ranks;
  }
  EXPECT_EQ(get_dispatch_config(8, 20).num_sms, 20);
  EXPECT_NO_THROW(Config{}.validate());
}

std::string message_of(const auto& call) {
  try {
    call();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kInvalidArgument);
    return error.what();
  }
  return "no error";
}

TEST(Config, RefusesWhatCannotBe) {
  EXPECT_THAT(message_of([] { (void)get_dispatch_config(0); }), HasSubstr("0 ranks"));
  EXPECT_THAT(message_of([] { (void)get_combine_config(-3); }), HasSubstr("-3 ranks"));
  EXPECT_THAT(message_of([] { (void)get_dispatch_config(8, 21); }), HasSubstr("num_sms is 21"));
  EXPECT_THAT(message_of([] { (void)get_combine_config(8, -2); }), HasSubstr("num_sms is -2"));
}

TEST(ConfigValidate, ChecksTheRelationsOfDeepEp) {
  EXPECT_THAT(message_of([] { Config{.num_sms = 3}.validate(); }), HasSubstr("num_sms is 3"));
  EXPECT_THAT(message_of([] { Config{.num_max_nvl_chunked_send_tokens = 0}.validate(); }),
              HasSubstr("0, 256, 6, 256; all must be greater than 0"));
  EXPECT_THAT(message_of([] { Config{.num_max_rdma_chunked_recv_tokens = -1}.validate(); }), HasSubstr("-1"));
  EXPECT_THAT(message_of([] { Config{.num_max_nvl_chunked_send_tokens = 256}.validate(); }),
              HasSubstr("num_max_nvl_chunked_send_tokens is 256"));
  EXPECT_NO_THROW(Config{.num_max_nvl_chunked_send_tokens = 255}.validate());
}

TEST(ConfigValidate, RoundsRdmaReceiveUpFirst) {
  const auto rdma = [](int send, int recv) {
    Config{.num_max_rdma_chunked_send_tokens = send, .num_max_rdma_chunked_recv_tokens = recv}.validate();
  };
  EXPECT_NO_THROW(rdma(128, 256));
  EXPECT_NO_THROW(rdma(128, 129));  // becomes 256
  EXPECT_THAT(message_of([&] { rdma(128, 128); }), HasSubstr("num_max_rdma_chunked_send_tokens is 128"));
  EXPECT_THAT(message_of([&] { rdma(129, 128); }), HasSubstr("rounded up to a multiple of it: 129"));
  EXPECT_NO_THROW(rdma(1, std::numeric_limits<int>::max()));
}

}  // namespace
}  // namespace crossdock
