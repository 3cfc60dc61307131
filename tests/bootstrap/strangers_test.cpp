// Rank 0 among strangers: it refuses them with a reason, and its own ranks come through.
#include <future>
#include <thread>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <crossdock/error.hpp>

#include "bootstrap/free_port.hpp"
#include "bootstrap/handshake.hpp"
#include "bootstrap/log_capture.hpp"
#include "bootstrap/rendezvous.hpp"
#include "bootstrap/stranger.hpp"
#include "bootstrap/tcp_group.hpp"

namespace crossdock::bootstrap_test {
namespace {

using bootstrap::FrameType;
using bootstrap::MemberHandshake;
using bootstrap::Rendezvous;
using bootstrap::SecretKey;
using std::chrono::milliseconds;
using testing::HasSubstr;
using testing::IsEmpty;

constexpr milliseconds kPatience{20'000};

std::future<std::shared_ptr<Bootstrap>> join_later(const TcpBootstrapOptions& options) {
  return std::async(std::launch::async, [options] { return make_tcp_bootstrap(options); });
}

Bytes hello(int rank, int size, const SecretKey* key = nullptr) { return MemberHandshake(rank, size, key).hello(); }

/// What rank 0 of a group of two says and logs about a stranger who sends `bytes`, while rank 1 joins as if nothing
/// were.
struct Reaction {
  std::string answer;
  std::string log;
};

Reaction react_to(const Bytes& bytes, const std::string& secret = "") {
  const FreePort port;
  const LogCapture log;
  auto root = join_later(tcp_options(port.number(), 0, 2, secret));
  const Stranger stranger(port.number());
  stranger.send(bytes);
  Reaction result{stranger.receive_all(), ""};
  auto member = join_later(tcp_options(port.number(), 1, 2, secret));
  const Group group = {root.get(), member.get()};
  run_ranks(2, [&](int rank) { group[static_cast<std::size_t>(rank)]->barrier(kPatience); });
  result.log = log.text();
  EXPECT_THAT(result.log, HasSubstr("refused 127.0.0.1:"));
  return result;
}

Bytes changed(Bytes bytes, std::size_t offset, int value) {
  bytes[offset] = static_cast<std::byte>(value);
  return bytes;
}

TEST(Strangers, ABrowserIsRefusedWithoutAnAnswer) {
  const Reaction reaction = react_to(to_bytes("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"));
  EXPECT_THAT(reaction.answer, IsEmpty());
  EXPECT_THAT(reaction.log, HasSubstr("bytes that are not of crossdock's bootstrap: \"GET / HTTP/1.1"));
}

TEST(Strangers, ShortGarbageIsRefused) {
  EXPECT_THAT(react_to(to_bytes("\x01\x02\x03\x04")).log,
              HasSubstr("bytes that are not of crossdock's bootstrap: \"....\""));
}

TEST(Strangers, OtherVersionsAreTold) {
  const Reaction reaction = react_to(changed(hello(1, 2), bootstrap::wire::kVersionOffset, 9));
  EXPECT_THAT(reaction.answer, HasSubstr("version 9 of the bootstrap protocol; this rank speaks version 1"));
  EXPECT_THAT(reaction.log, HasSubstr("version 9"));
}

TEST(Strangers, AHugeFrameIsRefusedByItsHeader) {
  const Reaction reaction = react_to(changed(hello(1, 2), bootstrap::wire::kLengthOffset + 3, 0x7F));
  EXPECT_THAT(reaction.answer, HasSubstr("a frame of type 1 with 2130706472 bytes of payload; 40 to 40 are allowed"));
}

TEST(Strangers, ADataFrameBeforeTheHandshakeIsRefused) {
  EXPECT_THAT(react_to(changed(hello(1, 2), bootstrap::wire::kTypeOffset, 7)).answer,
              HasSubstr("a frame of type 7 during the handshake"));
}

TEST(Strangers, RanksOutsideTheGroupAreTold) {
  EXPECT_THAT(react_to(hello(2, 2)).answer, HasSubstr("rank 2 cannot join; 1 to 1 are allowed"));
  EXPECT_THAT(react_to(hello(0, 2)).answer, HasSubstr("rank 0 cannot join"));
}

TEST(Strangers, AnotherSizeIsTold) {
  const Reaction reaction = react_to(hello(1, 3));
  EXPECT_THAT(reaction.answer, HasSubstr("rank 1 expects 3 ranks; rank 0 expects 2"));
  EXPECT_THAT(reaction.log, HasSubstr("rank 1 expects 3 ranks; rank 0 expects 2"));
}

TEST(Strangers, AWrongProofIsRefused) {
  const FreePort port;
  const LogCapture log;
  auto root = join_later(tcp_options(port.number(), 0, 2, "open sesame"));
  const SecretKey guess("a guess");
  const Stranger stranger(port.number());
  stranger.send(hello(1, 2, &guess));
  EXPECT_EQ(stranger.receive(56).size(), 56U);  // the challenge
  Bytes proof;
  bootstrap::append_frame(proof, {.type = FrameType::kProof, .rank = 1}, bootstrap::Proof{});
  stranger.send(proof);
  EXPECT_THAT(stranger.receive_all(), HasSubstr("the secret of rank 1 is not that of rank 0"));
  auto member = join_later(tcp_options(port.number(), 1, 2, "open sesame"));
  EXPECT_EQ(root.get()->size(), 2);
  EXPECT_EQ(member.get()->rank(), 1);
  EXPECT_THAT(log.text(), HasSubstr("the secret of rank 1 is not that of rank 0"));
}

TEST(Strangers, SilentOnesHoldNobodyUp) {
  const FreePort port;
  const LogCapture log;
  auto root = join_later(tcp_options(port.number(), 0, 3));
  std::vector<std::unique_ptr<Stranger>> scanners;
  for (int i = 0; i < 50; ++i) scanners.push_back(std::make_unique<Stranger>(port.number()));
  scanners.front()->send("XDC");
  const auto start = std::chrono::steady_clock::now();
  auto first = join_later(tcp_options(port.number(), 1, 3));
  auto second = join_later(tcp_options(port.number(), 2, 3));
  EXPECT_EQ(first.get()->rank(), 1);
  EXPECT_EQ(second.get()->rank(), 2);
  EXPECT_EQ(root.get()->rank(), 0);
  EXPECT_LT(std::chrono::steady_clock::now() - start, milliseconds(8000));
}

TEST(Strangers, OneWhoHangsUpIsLogged) {
  const FreePort port;
  const LogCapture log;
  auto root = join_later(tcp_options(port.number(), 0, 2));
  { const Stranger stranger(port.number()); }
  auto member = join_later(tcp_options(port.number(), 1, 2));
  EXPECT_EQ(root.get()->rank(), 0);
  EXPECT_EQ(member.get()->rank(), 1);
  EXPECT_THAT(log.text(), HasSubstr("closed its connection during the handshake"));
}

TEST(Strangers, ARankWhoseBytesComeOneByOneIsWelcome) {
  const FreePort port;
  auto root = join_later(tcp_options(port.number(), 0, 2));
  const Stranger slow(port.number());
  for (const std::byte byte : hello(1, 2)) {
    slow.send(Bytes{byte});
    std::this_thread::sleep_for(milliseconds(1));
  }
  EXPECT_EQ(slow.receive(48).size(), 48U);  // accept and start
  EXPECT_EQ(root.get()->size(), 2);
}

/// Runs rank 0's part with limits of its own; nobody but strangers comes.
std::string log_of_rendezvous(const bootstrap::RendezvousLimits& limits, std::size_t strangers) {
  const FreePort port;
  const LogCapture log;
  TcpBootstrapOptions options = tcp_options(port.number(), 0, 2);
  options.timeout = milliseconds(1000);
  Rendezvous rendezvous(options, nullptr, limits);
  auto root = std::async(std::launch::async, [&] { EXPECT_THROW(static_cast<void>(rendezvous.run()), Error); });
  std::vector<std::unique_ptr<Stranger>> crowd;
  for (std::size_t i = 0; i < strangers; ++i) crowd.push_back(std::make_unique<Stranger>(port.number()));
  root.get();
  return log.text();
}

TEST(Strangers, SilentOnesAreClosedAfterAWhile) {
  EXPECT_THAT(log_of_rendezvous({.handshake = milliseconds(50)}, 1), HasSubstr("no handshake within 50 ms"));
}

TEST(Strangers, TheOldestMakesRoomInACrowd) {
  EXPECT_THAT(log_of_rendezvous({.max_candidates = 4}, 10), HasSubstr("too many connections at once"));
}

}  // namespace
}  // namespace crossdock::bootstrap_test
