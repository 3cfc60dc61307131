#include <sys/wait.h>

#include <csignal>
#include <future>
#include <thread>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <crossdock/error.hpp>

#include "bootstrap/bootstrap_conformance.hpp"
#include "bootstrap/free_port.hpp"
#include "bootstrap/handshake.hpp"
#include "bootstrap/socket.hpp"
#include "bootstrap/stranger.hpp"
#include "bootstrap/tcp_group.hpp"

namespace crossdock::bootstrap_test {

namespace {

using std::chrono::milliseconds;
using testing::AllOf;
using testing::HasSubstr;

constexpr milliseconds kPatience{20'000};

const auto kImplementations =
    testing::Values(Implementation{"Open", [](int size) { return make_tcp_group(size, ""); }},
                    Implementation{"WithSecret", [](int size) { return make_tcp_group(size, "open sesame"); }});

std::string name_of(const testing::TestParamInfo<Implementation>& instance) { return instance.param.name; }

TcpBootstrapOptions hurried(TcpBootstrapOptions options, milliseconds timeout) {
  options.timeout = timeout;
  return options;
}

/// The error with which making or using a group fails.
Error failure_of(const std::function<void()>& body) {
  try {
    body();
  } catch (const Error& error) {
    return error;
  }
  ADD_FAILURE() << "no error";
  return {ErrorCode::kInvalidArgument, "no error"};
}

Error failure_to_join(const TcpBootstrapOptions& options) {
  return failure_of([&] { static_cast<void>(make_tcp_bootstrap(options)); });
}

std::future<Error> fail_later(const TcpBootstrapOptions& options) {
  return std::async(std::launch::async, [options] { return failure_to_join(options); });
}

/// A peer that has joined as `rank` and then does whatever the test wants.
Stranger joined_by_hand(std::uint16_t port, int rank, int size) {
  Stranger result(port);
  result.send(bootstrap::MemberHandshake(rank, size, nullptr).hello());
  EXPECT_EQ(result.receive(24).size(), 24U);  // accept
  return result;
}

}  // namespace

INSTANTIATE_TEST_SUITE_P(Tcp, BootstrapConformance, kImplementations, &name_of);
INSTANTIATE_TEST_SUITE_P(Tcp, WatchfulBootstrapConformance, kImplementations, &name_of);

namespace {

TEST(TcpBootstrap, OneRankNeedsNoNetwork) {
  const auto group = make_tcp_bootstrap(tcp_options(0, 0, 1));
  group->barrier(milliseconds(0));
  EXPECT_EQ(group->all_gather(to_bytes("me"), milliseconds(0)), std::vector<Bytes>{to_bytes("me")});
}

TEST(TcpBootstrap, RefusesImpossibleOptions) {
  for (const auto& options :
       {tcp_options(0, 0, 2), tcp_options(1, 2, 2), tcp_options(1, -1, 2), tcp_options(1, 0, 0)}) {
    EXPECT_EQ(failure_to_join(options).code(), ErrorCode::kInvalidArgument);
  }
}

TEST(TcpBootstrap, FindsRankZeroByNameAndOverIpv6) {
  for (const char* address : {"localhost", "127.0.0.1", "::1"}) {
    const FreePort port(std::string(address) == "::1");
    if (!port.available()) continue;
    Group group(3);
    run_ranks(3, [&](int rank) {
      auto options = tcp_options(port.number(), rank, 3);
      options.address = address;
      group[static_cast<std::size_t>(rank)] = make_tcp_bootstrap(options);
    });
    run_ranks(3, [&](int rank) { group[static_cast<std::size_t>(rank)]->barrier(kPatience); });
  }
}

TEST(TcpBootstrap, APortInUseIsNamed) {
  const FreePort port;
  const FileDescriptor listener = bootstrap::listen_at("127.0.0.1", port.number());
  const Error error = failure_to_join(tcp_options(port.number(), 0, 2));
  EXPECT_EQ(error.code(), ErrorCode::kBootstrap);
  EXPECT_EQ(error.system_error(), EADDRINUSE);
  EXPECT_THAT(error.what(), AllOf(HasSubstr("Address already in use"), HasSubstr(std::to_string(port.number()))));
}

TEST(TcpBootstrap, EveryRankThatCameNamesThoseThatDidNot) {
  const FreePort port;
  std::vector<std::future<Error>> ranks;
  for (const int rank : {0, 1, 3}) {
    ranks.push_back(fail_later(hurried(tcp_options(port.number(), rank, 5), milliseconds(1000))));
  }
  for (auto& rank : ranks) {
    const Error error = rank.get();
    EXPECT_EQ(error.code(), ErrorCode::kTimeout) << error.what();
    EXPECT_THAT(error.what(), HasSubstr("bootstrap rendezvous: ranks 2, 4 of 5 did not come within 1000 ms"));
    EXPECT_EQ(error.rank(), 2);
    ASSERT_TRUE(error.wait().has_value());
    EXPECT_EQ(error.wait()->phase, "rendezvous");
  }
}

TEST(TcpBootstrap, WithoutRankZeroTheOthersNameIt) {
  const FreePort port;
  const Error error = failure_to_join(hurried(tcp_options(port.number(), 1, 2), milliseconds(100)));
  EXPECT_EQ(error.code(), ErrorCode::kTimeout);
  EXPECT_EQ(error.rank(), 0);
  EXPECT_THAT(error.what(), AllOf(HasSubstr("rank 1 could not join rank 0"), HasSubstr("Connection refused")));
}

TEST(TcpBootstrap, ANameThatDoesNotExistIsNamed) {
  auto options = hurried(tcp_options(1, 1, 2), milliseconds(50));
  options.address = "no such host";
  EXPECT_THAT(failure_to_join(options).what(), HasSubstr("cannot resolve \"no such host\""));
}

struct Misfit {
  int rank;
  int size;
  const char* secret;
  const char* root_secret;
  const char* reason;
};

TEST(TcpBootstrap, AMisfitLearnsWhyAndTheRankItselfIsStillWelcome) {
  for (const Misfit& misfit : {Misfit{1, 2, "sesame", "barley", "the secret of rank 1 is not that of rank 0"},
                               Misfit{1, 2, "", "barley", "rank 0 has a secret; rank 1 has none"},
                               Misfit{1, 2, "sesame", "", "rank 1 has a secret; rank 0 has none"},
                               Misfit{2, 4, "", "", "rank 2 expects 4 ranks; rank 0 expects 2"}}) {
    const FreePort port;
    const auto root = std::async(
        std::launch::async, [&] { return make_tcp_bootstrap(tcp_options(port.number(), 0, 2, misfit.root_secret)); });
    const Error error = failure_to_join(tcp_options(port.number(), misfit.rank, misfit.size, misfit.secret));
    EXPECT_EQ(error.code(), ErrorCode::kBootstrap) << error.what();
    EXPECT_THAT(error.what(), HasSubstr(misfit.reason));
    EXPECT_EQ(error.rank(), misfit.rank);
    EXPECT_EQ(make_tcp_bootstrap(tcp_options(port.number(), 1, 2, misfit.root_secret))->rank(), 1);
  }
}

TEST(TcpBootstrap, RankZeroQuotesRefusalsIfARankIsMissing) {
  const FreePort port;
  auto root = fail_later(hurried(tcp_options(port.number(), 0, 2, "barley"), milliseconds(1000)));
  EXPECT_EQ(failure_to_join(tcp_options(port.number(), 1, 2, "sesame")).code(), ErrorCode::kBootstrap);
  const Error error = root.get();
  EXPECT_EQ(error.code(), ErrorCode::kTimeout);
  EXPECT_THAT(error.what(), AllOf(HasSubstr("rank 1 of 2 did not come"), HasSubstr("refused: 127.0.0.1:"),
                                  HasSubstr("the secret of rank 1 is not that of rank 0")));
}

TEST(TcpBootstrap, TheSecondOfTwoThatClaimARankIsRefused) {
  const FreePort port;
  Group group(3);
  std::atomic<int> refused{0};
  run_ranks(4, [&](int thread) {
    const int rank = thread < 3 ? thread : 1;
    try {
      if (rank == 2) {
        while (refused.load() == 0) std::this_thread::sleep_for(milliseconds(1));
      }
      auto joined = make_tcp_bootstrap(tcp_options(port.number(), rank, 3));
      group[static_cast<std::size_t>(rank)] = std::move(joined);
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kBootstrap);
      EXPECT_THAT(error.what(), HasSubstr("rank 1 has already come"));
      ++refused;
    }
  });
  EXPECT_EQ(refused.load(), 1);
  run_ranks(3, [&](int rank) { group[static_cast<std::size_t>(rank)]->barrier(kPatience); });
}

TEST(TcpBootstrap, SomethingElseAtThePortIsNotTakenForRankZero) {
  const FreePort port;
  auto member = fail_later(tcp_options(port.number(), 1, 2));
  Impostor::serve_once(port.number(), to_bytes("HTTP/1.1 400 Bad Request\r\n\r\n"));
  const Error error = member.get();
  EXPECT_EQ(error.code(), ErrorCode::kBootstrap);
  EXPECT_THAT(error.what(), HasSubstr("bytes that are not of crossdock's bootstrap: \"HTTP/1.1 400"));
}

TEST(TcpBootstrap, ARankThatWaitsOutlivesAnOlderListener) {
  const FreePort port;
  auto member = std::async(std::launch::async, [&] { return make_tcp_bootstrap(tcp_options(port.number(), 1, 2)); });
  Impostor::serve_once(port.number(), {});
  const auto root = make_tcp_bootstrap(tcp_options(port.number(), 0, 2));
  EXPECT_EQ(member.get()->rank(), 1);
}

TEST(TcpBootstrap, ARankThatCameAndLeftEndsTheRendezvous) {
  const FreePort port;
  auto root = fail_later(tcp_options(port.number(), 0, 4));
  const Stranger witness = joined_by_hand(port.number(), 1, 4);
  static_cast<void>(joined_by_hand(port.number(), 2, 4));
  const Error error = root.get();
  EXPECT_EQ(error.code(), ErrorCode::kPeerLost) << error.what();
  EXPECT_EQ(error.rank(), 2);
  EXPECT_THAT(error.what(), HasSubstr("rank 2 closed its connection"));
  EXPECT_THAT(witness.receive_all(), HasSubstr("rank 2 closed its connection"));
}

/// What ranks 0 and 1 of three say of rank 2, which has joined and now sends `bytes`.
void expect_loss_of_rank_2(const Bytes& bytes, const std::string& text) {
  const FreePort port;
  std::vector<std::future<Error>> ranks;
  for (const int rank : {0, 1}) {
    ranks.push_back(std::async(std::launch::async, [&, rank] {
      const auto group = make_tcp_bootstrap(tcp_options(port.number(), rank, 3));
      return failure_of([&] { static_cast<void>(group->all_gather(to_bytes("here"), kPatience)); });
    }));
  }
  const Stranger peer = joined_by_hand(port.number(), 2, 3);
  EXPECT_EQ(peer.receive(24).size(), 24U);  // start
  peer.send(bytes);
  for (auto& rank : ranks) {
    const Error error = rank.get();
    EXPECT_EQ(error.code(), ErrorCode::kPeerLost) << error.what();
    EXPECT_EQ(error.rank(), 2);
    EXPECT_THAT(error.what(), HasSubstr(text));
  }
}

TEST(TcpBootstrap, ARankThatSendsNonsenseIsNamedOnEveryRank) {
  expect_loss_of_rank_2(to_bytes("nonsense"), "rank 2 sent bytes that are not of crossdock's bootstrap");
  Bytes huge;
  bootstrap::append_frame(huge, {.type = bootstrap::FrameType::kContribution, .rank = 2, .round = 1});
  huge[bootstrap::wire::kLengthOffset + 3] = std::byte{0x7F};
  expect_loss_of_rank_2(huge, "with 2130706432 bytes of payload");
  Bytes stale;
  bootstrap::append_frame(stale, {.type = bootstrap::FrameType::kContribution, .rank = 2, .round = 7});
  expect_loss_of_rank_2(stale, "sent a frame of type 7 out of turn");
  Bytes stolen;
  bootstrap::append_frame(stolen, {.type = bootstrap::FrameType::kContribution, .rank = 1, .round = 1});
  expect_loss_of_rank_2(stolen, "sent a frame of type 7 out of turn");
}

TEST(TcpBootstrap, AKilledProcessIsNamedOnEveryRank) {
  const FreePort port;
  const pid_t child = ::fork();
  if (child == 0) {
    const auto group = make_tcp_bootstrap(tcp_options(port.number(), 2, 4));
    group->barrier(kPatience);
    ::pause();
  }
  run_ranks(4, [&](int rank) {
    if (rank == 2) return;
    const auto group = make_tcp_bootstrap(tcp_options(port.number(), rank, 4));
    group->barrier(kPatience);
    if (rank == 0) ::kill(child, SIGKILL);
    const auto start = std::chrono::steady_clock::now();
    const Error error = failure_of([&] { static_cast<void>(group->all_gather(Bytes(100'000), kPatience)); });
    EXPECT_EQ(error.code(), ErrorCode::kPeerLost) << error.what();
    EXPECT_EQ(error.rank(), 2) << error.what();
    EXPECT_LT(std::chrono::steady_clock::now() - start, kPatience / 4);
  });
  EXPECT_EQ(::waitpid(child, nullptr, 0), child);
}

TEST(TcpBootstrap, AMemberThatDribblesCannotStretchTheDeadline) {
  const FreePort port;
  auto root = std::async(std::launch::async, [&] {
    const auto group = make_tcp_bootstrap(tcp_options(port.number(), 0, 2));
    return failure_of([&] { static_cast<void>(group->all_gather({}, milliseconds(300))); });
  });
  const Stranger peer = joined_by_hand(port.number(), 1, 2);
  Bytes contribution;
  bootstrap::append_frame(contribution, {.type = bootstrap::FrameType::kContribution, .rank = 1, .round = 1},
                          Bytes(1'000'000));
  const auto start = std::chrono::steady_clock::now();
  // A fast machine would be through with a million bytes before the deadline, were there no pauses.
  for (std::size_t sent = 0; root.wait_for(std::chrono::microseconds(100)) != std::future_status::ready; ++sent) {
    ASSERT_LT(std::chrono::steady_clock::now() - start, kPatience / 2);
    peer.send(Bytes{contribution.at(sent)});
  }
  EXPECT_EQ(root.get().code(), ErrorCode::kTimeout);
}

TEST(TcpBootstrap, AMembersTimeoutReachesARankZeroThatIsLate) {
  const Group group = make_tcp_group(3, "");
  EXPECT_EQ(failure_of([&] { group[1]->barrier(milliseconds(20)); }).rank(), 0);
  const Error error = failure_of([&] { group[0]->barrier(kPatience); });
  EXPECT_EQ(error.code(), ErrorCode::kTimeout);
  EXPECT_THAT(error.what(), HasSubstr("rank 2 of 3 did not come within 20 ms"));
}

TEST(TcpBootstrap, AFailureReachesARankInTheMiddleOfALargeContribution) {
  const Group group = make_tcp_group(3, "");
  run_ranks(3, [&](int rank) {
    const auto& mine = group[static_cast<std::size_t>(rank)];
    const Bytes large(rank == 1 ? std::size_t{16} << 20U : 4);
    const Error error = failure_of([&] {
      if (rank == 2) mine->barrier(kPatience);
      static_cast<void>(mine->all_gather(large, kPatience));
    });
    EXPECT_EQ(error.code(), ErrorCode::kBootstrap) << "rank " << rank << ": " << error.what();
  });
}

}  // namespace

}  // namespace crossdock::bootstrap_test
