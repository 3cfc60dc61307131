// Ranks are processes, and one is killed: the others hear of it soon, get rid of the buffer, and make another.
#include <sys/wait.h>
#include <unistd.h>

#include <gtest/gtest.h>

#include <chrono>
#include <csignal>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

#include <fmt/format.h>

#include "bootstrap/free_port.hpp"
#include "core/refusal.hpp"
#include "core/round_trip.hpp"
#include "core/victim.hpp"
#include "support/ranks.hpp"

namespace crossdock::testing {
namespace {

constexpr int kRanks = 3;
constexpr int kVictim = 1;
constexpr double kSoon = 1000;  // milliseconds, while the deadline is 100 s
constexpr double kDestroyTime = 200;

using Clock = std::chrono::steady_clock;

double milliseconds_since(Clock::time_point begin) {
  return std::chrono::duration<double, std::milli>(Clock::now() - begin).count();
}

/// Expectations of GoogleTest are lost in forked ranks.
template <typename... Args>
void demand(bool condition, fmt::format_string<Args...> text, Args&&... args) {
  if (!condition) throw std::runtime_error(fmt::format(text, std::forward<Args>(args)...));
}

struct Loss {
  std::string operation;
  std::string phase;
  std::uint64_t epoch = 0;
};

void demand_loss(const std::function<void()>& call, const Loss& loss) {
  const auto begin = Clock::now();
  try {
    call();
  } catch (const Error& error) {
    demand(error.code() == ErrorCode::kPeerLost, "not kPeerLost: {}", error.what());
    demand(error.wait().has_value(), "says nothing of the wait: {}", error.what());
    demand(error.wait()->rank == kVictim, "blames rank {}: {}", error.wait()->rank, error.what());
    demand(error.wait()->operation == loss.operation && error.wait()->phase == loss.phase, "another phase: {}",
           error.what());
    demand(error.wait()->epoch == loss.epoch, "another epoch: {}", error.what());
    const std::string text = error.what();
    demand(text.find("rank 1") != std::string::npos && text.find(loss.phase) != std::string::npos, "says: {}", text);
    demand(milliseconds_since(begin) < kSoon, "took {} ms", milliseconds_since(begin));
    return;
  }
  throw std::runtime_error("nothing was thrown");
}

void demand_broken(Buffer& buffer) {
  demand(!buffer.is_available(), "a broken buffer is available");
  try {
    run_round_trip(buffer);
  } catch (const Error& error) {
    demand(error.code() == ErrorCode::kState, "not kState: {}", error.what());
    return;
  }
  throw std::runtime_error("a broken buffer worked");
}

/// The survivors are ranks 0 and 1 of a new group.
void make_another(int old_rank, std::uint16_t port) {
  TcpBootstrapOptions options;
  options.port = port;
  options.rank = old_rank == 0 ? 0 : 1;
  options.size = kRanks - 1;
  options.timeout = Milliseconds(20'000);
  Buffer buffer(make_tcp_bootstrap(options), roomy_options());
  run_round_trip(buffer);
}

/// What every rank does, the victim too until it dies.
using Life = std::function<void(const std::shared_ptr<Bootstrap>&)>;

/// `survive` runs until the buffer is destroyed.
void run_with_victim(const Life& die, const Life& survive) {
  const bootstrap_test::FreePort next_port;
  const auto statuses = run_as_processes(kRanks, [&](const std::shared_ptr<Bootstrap>& bootstrap) {
    if (bootstrap->rank() == kVictim) {
      die(bootstrap);
      std::raise(SIGKILL);
    }
    survive(bootstrap);
    make_another(bootstrap->rank(), next_port.number());
  });
  for (std::size_t rank = 0; rank < statuses.size(); ++rank) {
    SCOPED_TRACE("rank " + std::to_string(rank));
    EXPECT_EQ(statuses[rank].signal, rank == kVictim ? SIGKILL : 0);
    EXPECT_EQ(statuses[rank].code, 0);
  }
}

void destroy_soon(Buffer& buffer) {
  demand_broken(buffer);
  const auto begin = Clock::now();
  buffer.destroy();
  demand(milliseconds_since(begin) < kDestroyTime, "destroy() took {} ms", milliseconds_since(begin));
}

Life survive_dispatch(const std::string& phase) {
  return [phase](const std::shared_ptr<Bootstrap>& bootstrap) {
    Buffer buffer(bootstrap, roomy_options());
    const DispatchInput input = RoundTrip(buffer.rank(), kRanks).input();
    demand_loss([&] { static_cast<void>(buffer.dispatch(input)); }, {"dispatch", phase, 1});
    destroy_soon(buffer);
  };
}

Life survive_combine(const std::string& phase) {
  return [phase](const std::shared_ptr<Bootstrap>& bootstrap) {
    Buffer buffer(bootstrap, roomy_options());
    const DispatchOutput dispatched = buffer.dispatch(RoundTrip(buffer.rank(), kRanks).input());
    demand_loss([&] { static_cast<void>(buffer.combine(combine_of(dispatched))); }, {"combine", phase, 2});
    destroy_soon(buffer);
  };
}

Life die_with(const std::function<void(Victim&)>& live) {
  return [live](const std::shared_ptr<Bootstrap>& bootstrap) {
    Victim victim(*bootstrap, roomy_options());
    live(victim);
    std::raise(SIGKILL);
  };
}

TEST(PeerDeath, BeforeItAnnouncesADispatch) {
  run_with_victim(die_with([](Victim&) {}), survive_dispatch("announce"));
}

TEST(PeerDeath, BetweenAnnounceAndPlace) {
  run_with_victim(die_with([](Victim& victim) { victim.announce_dispatch(1); }), survive_dispatch("place"));
}

TEST(PeerDeath, WhileItSends) {
  const auto die = [](Victim& victim) {
    victim.announce_dispatch(1);
    victim.place(1);
  };
  run_with_victim(die_with(die), survive_dispatch("send"));
}

TEST(PeerDeath, BeforeItAnnouncesACombine) {
  run_with_victim(die_with([](Victim& victim) { victim.dispatch(1); }), survive_combine("announce"));
}

TEST(PeerDeath, BeforeItIsDoneWithACombine) {
  const auto die = [](Victim& victim) {
    victim.dispatch(1);
    victim.announce_combine(2, 1);
  };
  run_with_victim(die_with(die), survive_combine("done"));
}

TEST(PeerDeath, WhileIdleBetweenOperations) {
  const auto live = [](const std::shared_ptr<Bootstrap>& bootstrap) {
    Buffer buffer(bootstrap, roomy_options());
    for (int i = 0; i < 10; ++i) run_round_trip(buffer);
    if (buffer.rank() == kVictim) std::raise(SIGKILL);
    ::usleep(50'000);
    const DispatchInput input = RoundTrip(buffer.rank(), kRanks).input();
    demand_loss([&] { static_cast<void>(buffer.dispatch(input)); }, {"dispatch", "announce", 21});
    destroy_soon(buffer);
  };
  run_with_victim(live, live);
}

TEST(PeerDeath, IsTheErrorOfAnAsynchronousOperation) {
  const auto live = [](const std::shared_ptr<Bootstrap>& bootstrap) {
    Buffer buffer(bootstrap, roomy_options());
    const DispatchOutput dispatched = buffer.dispatch(RoundTrip(buffer.rank(), kRanks).input());
    if (buffer.rank() == kVictim) std::raise(SIGKILL);
    OperationOptions options;
    options.completion = Completion::kAsynchronous;
    const CombineOutput first = buffer.combine(combine_of(dispatched), options);
    const CombineOutput second = buffer.combine(combine_of(dispatched), options);
    demand_loss([&] { first.event.wait(); }, {"combine", "announce", 2});
    try {
      second.event.wait();
      throw std::runtime_error("the second operation went well");
    } catch (const Error& error) {
      demand(error.code() == ErrorCode::kState, "not kState: {}", error.what());
    }
    destroy_soon(buffer);
  };
  run_with_victim(live, live);
}

void run_with_death_in_construction(DyingBootstrap::Moment moment) {
  const auto die = [moment](const std::shared_ptr<Bootstrap>& bootstrap) {
    const Buffer buffer(std::make_shared<DyingBootstrap>(bootstrap, moment), roomy_options());
  };
  const auto survive = [](const std::shared_ptr<Bootstrap>& bootstrap) {
    const auto begin = Clock::now();
    try {
      const Buffer buffer(bootstrap, roomy_options());
    } catch (const Error& error) {
      demand(error.code() == ErrorCode::kPeerLost, "not kPeerLost: {}", error.what());
      demand(std::string(error.what()).find("rank 1") != std::string::npos, "says: {}", error.what());
      demand(milliseconds_since(begin) < kSoon, "took {} ms", milliseconds_since(begin));
      return;
    }
    throw std::runtime_error("the buffer was made");
  };
  run_with_victim(die, survive);
}

TEST(PeerDeathInConstruction, BeforeItOffersItsWindow) {
  run_with_death_in_construction(DyingBootstrap::Moment::kBeforeGather);
}
TEST(PeerDeathInConstruction, BeforeItPassesItsWindow) {
  run_with_death_in_construction(DyingBootstrap::Moment::kAfterGather);
}
TEST(PeerDeathInConstruction, BeforeItsLastBarrier) {
  run_with_death_in_construction(DyingBootstrap::Moment::kBeforeBarrier);
}

/// Names in /dev/shm, and whether this process has mapped one of them.
bool has_named_memory() {
  for (const auto& entry : std::filesystem::directory_iterator("/dev/shm")) {
    if (entry.path().filename().string().find("crossdock") != std::string::npos) return true;
  }
  std::ifstream maps("/proc/self/maps");
  for (std::string line; std::getline(maps, line);) {
    if (line.find(" /dev/shm/") != std::string::npos) return true;
  }
  return false;
}

TEST(PeerDeath, OfAllRanksLeavesNothingBehind) {
  const auto statuses = run_as_processes(kRanks, [](const std::shared_ptr<Bootstrap>& bootstrap) {
    Buffer buffer(bootstrap, roomy_options());
    run_round_trip(buffer);
    demand(!has_named_memory(), "a window has a name in /dev/shm");
    bootstrap->barrier(Milliseconds(10'000));
    std::raise(SIGKILL);
  });
  for (const ExitStatus& status : statuses) EXPECT_EQ(status.signal, SIGKILL);
  EXPECT_FALSE(has_named_memory());
}

/// Pids of all ranks.
std::vector<pid_t> gather_pids(Bootstrap& bootstrap) {
  const pid_t mine = ::getpid();
  std::vector<pid_t> pids;
  for (const Bytes& bytes : bootstrap.all_gather(std::as_bytes(std::span(&mine, 1)), Milliseconds(10'000))) {
    std::memcpy(&pids.emplace_back(), bytes.data(), sizeof(pid_t));
  }
  return pids;
}

TEST(StoppedPeer, IsATimeoutThereAndHereAnErrorToo) {
  const auto statuses = run_as_processes(kRanks, [](const std::shared_ptr<Bootstrap>& bootstrap) {
    const std::vector<pid_t> pids = gather_pids(*bootstrap);
    Buffer buffer(bootstrap, roomy_options());
    run_round_trip(buffer);
    OperationOptions options;
    options.timeout = Milliseconds(300);
    if (buffer.rank() == kVictim) {
      options.timeout.reset();
      std::raise(SIGSTOP);
    }
    const auto begin = Clock::now();
    try {
      static_cast<void>(buffer.dispatch(RoundTrip(buffer.rank(), kRanks).input(), options));
    } catch (const Error& error) {
      if (buffer.rank() == 0) ::kill(pids[kVictim], SIGCONT);
      demand(error.wait().has_value(), "says nothing of the wait: {}", error.what());
      const std::string text = error.what();
      if (buffer.rank() == kVictim || error.code() == ErrorCode::kPeerLost) {
        // The first rank to give up may be seen to do so before one's own deadline.
        demand(error.code() == ErrorCode::kPeerLost && text.find("gave up") != std::string::npos, "says: {}", text);
      } else {
        demand(error.code() == ErrorCode::kTimeout && error.wait()->rank == kVictim, "says: {}", text);
        demand(text.find("300 ms") != std::string::npos, "says: {}", text);
      }
      demand(milliseconds_since(begin) < kSoon, "took {} ms", milliseconds_since(begin));
      return destroy_soon(buffer);
    }
    ::kill(pids[kVictim], SIGCONT);
    throw std::runtime_error("the dispatch went well");
  });
  for (const ExitStatus& status : statuses) EXPECT_EQ(status, ExitStatus{});
}

}  // namespace
}  // namespace crossdock::testing
