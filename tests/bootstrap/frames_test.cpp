#include "bootstrap/frames.hpp"

#include <array>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <crossdock/error.hpp>

namespace crossdock::bootstrap {
namespace {

using testing::HasSubstr;

Bytes bytes_of(std::initializer_list<int> values) {
  Bytes result;
  for (const int value : values) result.push_back(static_cast<std::byte>(value));
  return result;
}

Bytes header_with(std::size_t offset, int value) {
  Bytes result;
  append_frame(result, {.type = FrameType::kStart});
  result[offset] = static_cast<std::byte>(value);
  return result;
}

std::string refusal_of(const Bytes& bytes, Phase phase) {
  try {
    static_cast<void>(parse_header(std::span<const std::byte, wire::kHeaderBytes>(bytes), phase));
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kFormat);
    return error.what();
  }
  return "accepted";
}

/// Gives the reader at most `step` bytes at a time.
std::vector<Frame> read_all(FrameReader& reader, std::span<const std::byte> bytes, std::size_t step) {
  std::vector<Frame> result;
  while (!bytes.empty()) {
    const auto wanted = reader.wanted();
    EXPECT_FALSE(wanted.empty());
    const std::size_t count = std::min({step, wanted.size(), bytes.size()});
    std::copy_n(bytes.begin(), count, wanted.begin());
    bytes = bytes.subspan(count);
    if (auto frame = reader.advance(count)) result.push_back(std::move(*frame));
  }
  return result;
}

// The format is shared by processes of different builds: these bytes must never change for version 1.
TEST(Frames, HaveTheDocumentedBytes) {
  Bytes bytes;
  append_frame(bytes, {.type = FrameType::kContribution, .rank = 0x0102, .round = 0x0304050607080910},
               bytes_of({0xAA, 0xBB}));
  EXPECT_EQ(bytes, bytes_of({'X', 'D', 'C', 'K',  1,    7,    0,    0,    0x02, 0x01, 0,    0,    2,
                             0,   0,   0,   0x10, 0x09, 0x08, 0x07, 0x06, 0x05, 0x04, 0x03, 0xAA, 0xBB}));
}

TEST(Frames, ComeOutAsTheyWentInHoweverTheyArrive) {
  Bytes stream;
  append_frame(stream, {.type = FrameType::kStart});
  append_frame(stream, {.type = FrameType::kContribution, .rank = 3, .round = 9}, Bytes(1000, std::byte{7}));
  append_frame(stream, {.type = FrameType::kContribution, .rank = 4, .round = 9});
  append_frame(stream, {.type = FrameType::kBarrier, .rank = 1, .round = 10});
  for (const std::size_t step : {std::size_t{1}, std::size_t{7}, std::size_t{24}, stream.size()}) {
    FrameReader reader;
    reader.set_phase(Phase::kGroup);
    const auto frames = read_all(reader, stream, step);
    ASSERT_EQ(frames.size(), 4U) << step;
    EXPECT_EQ(frames[1].header.rank, 3U);
    EXPECT_EQ(frames[1].header.round, 9U);
    EXPECT_EQ(frames[1].payload, Bytes(1000, std::byte{7}));
    EXPECT_TRUE(frames[2].payload.empty());
    EXPECT_EQ(frames[3].header.type, FrameType::kBarrier);
  }
}

TEST(Frames, HeadersAreChecked) {
  EXPECT_EQ(refusal_of(header_with(0, 'X'), Phase::kGroup), "accepted");
  EXPECT_THAT(refusal_of(header_with(0, 'G'), Phase::kGroup), HasSubstr("not of crossdock's bootstrap: \"GDCK"));
  EXPECT_THAT(refusal_of(header_with(wire::kVersionOffset, 2), Phase::kGroup),
              HasSubstr("version 2 of the bootstrap protocol; this rank speaks version 1"));
  EXPECT_THAT(refusal_of(header_with(wire::kTypeOffset, 0), Phase::kGroup), HasSubstr("unknown type 0"));
  EXPECT_THAT(refusal_of(header_with(wire::kTypeOffset, 11), Phase::kGroup), HasSubstr("unknown type 11"));
  EXPECT_THAT(refusal_of(header_with(wire::kReservedOffset, 1), Phase::kGroup), HasSubstr("reserved"));
  EXPECT_THAT(refusal_of(header_with(wire::kLengthOffset, 1), Phase::kGroup),
              HasSubstr("type 6 with 1 bytes of payload; 0 to 0 are allowed"));
}

TEST(Frames, TypesBelongToOnePhase) {
  EXPECT_THAT(refusal_of(header_with(wire::kTypeOffset, 6), Phase::kHandshake),
              HasSubstr("type 6 during the handshake"));
  Bytes hello;
  append_frame(hello, {.type = FrameType::kHello}, Bytes(wire::kHelloBytes));
  hello.resize(wire::kHeaderBytes);
  EXPECT_EQ(refusal_of(hello, Phase::kHandshake), "accepted");
  EXPECT_THAT(refusal_of(hello, Phase::kGroup), HasSubstr("type 1 after the handshake"));
}

TEST(Frames, LengthsAreBoundedByType) {
  for (int type = 1; type <= 10; ++type) {
    for (const Phase phase : {Phase::kHandshake, Phase::kGroup}) {
      Bytes header = header_with(wire::kTypeOffset, type);
      for (std::size_t i = 0; i < 4; ++i) header[wire::kLengthOffset + i] = std::byte{0xFF};
      EXPECT_NE(refusal_of(header, phase), "accepted") << type;
    }
  }
  Bytes contribution = header_with(wire::kTypeOffset, 7);
  contribution[wire::kLengthOffset + 3] = std::byte{1};
  EXPECT_EQ(refusal_of(contribution, Phase::kGroup), "accepted");
  contribution[wire::kLengthOffset] = std::byte{1};
  EXPECT_THAT(refusal_of(contribution, Phase::kGroup), HasSubstr("0 to 16777216 are allowed"));
}

TEST(Frames, StrangersAreRecognisedByTheirFirstBytes) {
  FrameReader reader;
  EXPECT_THROW(read_all(reader, bytes_of({'G', 'E', 'T', ' '}), 1), Error);
  EXPECT_FALSE(reader.recognised());
  FrameReader ours;
  EXPECT_TRUE(read_all(ours, bytes_of({'X', 'D', 'C', 'K'}), 1).empty());
  EXPECT_TRUE(ours.recognised());
}

TEST(Frames, FailuresComeOutAsTheyWentIn) {
  const std::vector<bool> arrived = {true, false, true, false};
  const Failure failure = missing_ranks({Operation::kBarrier, 12, arrived}, std::chrono::milliseconds(50));
  Bytes bytes;
  append_failure(bytes, failure);
  FrameReader reader;
  reader.set_phase(Phase::kGroup);
  const auto frames = read_all(reader, bytes, bytes.size());
  ASSERT_EQ(frames.size(), 1U);
  const Failure result = parse_failure(frames[0]);
  EXPECT_EQ(result.code, ErrorCode::kTimeout);
  EXPECT_EQ(result.operation, Operation::kBarrier);
  EXPECT_EQ(result.round, 12U);
  EXPECT_EQ(result.rank, 1);
  EXPECT_EQ(result.expected, 4);
  EXPECT_EQ(result.seen, 2);
  EXPECT_EQ(result.text, "bootstrap barrier 12: ranks 1, 3 of 4 did not come within 50 ms");
}

TEST(Frames, ALongFailureIsCutShortAndMalformedOnesAreRefused) {
  Failure failure;
  failure.text = std::string(5000, 'x');
  Bytes bytes;
  append_failure(bytes, failure);
  EXPECT_EQ(bytes.size(), wire::kHeaderBytes + wire::kMaxFailureBytes);
  Frame frame{{.type = FrameType::kFailure}, Bytes(wire::kFailureTextOffset)};
  EXPECT_THROW(static_cast<void>(parse_failure(frame)), Error);  // code 0 is not a failure of a group
  frame.payload[0] = static_cast<std::byte>(ErrorCode::kTimeout);
  EXPECT_EQ(parse_failure(frame).code, ErrorCode::kTimeout);
  frame.payload[1] = std::byte{3};
  EXPECT_THROW(static_cast<void>(parse_failure(frame)), Error);  // no such operation
}

TEST(Frames, TextFromPeersIsMadePrintable) {
  EXPECT_EQ(printable(bytes_of({'a', '\n', 0x1B, 0xFF, 'b', 'c'}), 5), "a...b");
}

TEST(Frames, ManyRanksAreShortened) {
  EXPECT_EQ(list_ranks({true, false, true}, true), "0, 2");
  EXPECT_THAT(list_ranks(std::vector<bool>(100), false), HasSubstr("14, 15 and 84 more"));
}

}  // namespace
}  // namespace crossdock::bootstrap
