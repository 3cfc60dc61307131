// Ranks that are lost in the middle of operations that go without the host, with BufferOptions::mask_lost_ranks.
#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <barrier>
#include <chrono>
#include <functional>
#include <optional>
#include <set>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include <crossdock/buffer.hpp>
#include <crossdock/error.hpp>

#include "backend/cuda/captured_graph.hpp"
#include "backend/cuda/cuda_place.hpp"
#include "backend/cuda/device_probe.hpp"
#include "backend/cuda/mask_run.hpp"
#include "backend/cuda/puppet.hpp"
#include "core/masked_world.hpp"
#include "core/world_run.hpp"
#include "support/ranks.hpp"

namespace crossdock::testing {
namespace {

constexpr int kRanks = 4;
constexpr int kPuppet = 1;
constexpr int kVictim = 2;  ///< a rank that the puppet gives up
constexpr std::int64_t kTokens = 64;
constexpr std::int64_t kMostTokens = 2048;
constexpr PuppetDispatch kDispatch;
constexpr Milliseconds kPatience{800};

BufferOptions options_of(int rank) {
  BufferOptions options = cuda_mask_options(kRanks);
  options.mask_lost_ranks = true;
  // One rank's patience decides for all; its grace is a second.
  options.timeout = rank == 0 ? kPatience : Milliseconds(5'000);
  return options;
}

/// A rank other than the puppet.
class Survivor {
 public:
  Survivor(const std::shared_ptr<Bootstrap>& bootstrap, Completion completion)
      : place_(bootstrap->rank()), buffer_(bootstrap, on_device_of(place_, options_of(bootstrap->rank()))) {
    options_.completion = completion;
    options_.stream = place_.stream();
    input_.num_experts = kDispatch.num_experts;
    input_.num_worst_tokens = kDispatch.num_worst_tokens;
    take_tokens(kTokens);
  }

  void take_tokens(std::int64_t count) {
    std::vector<std::int64_t> ids;
    for (std::int64_t i = 0; i < count * kDispatch.num_topk; ++i)
      ids.push_back((i * 5 + i / 2) % kDispatch.num_experts);
    const std::vector<std::uint16_t> ones(static_cast<std::size_t>(count * kDispatch.hidden), 0x3F80);
    input_.x = place_.place(make_matrix<std::uint16_t>(DataType::kBfloat16, kDispatch.hidden, ones));
    input_.topk_idx = place_.place(make_matrix<std::int64_t>(DataType::kInt64, kDispatch.num_topk, ids));
    const std::vector<float> weights(ids.size(), 1.0F);
    input_.topk_weights = place_.place(make_matrix<float>(DataType::kFloat32, kDispatch.num_topk, weights));
  }

  [[nodiscard]] Buffer& buffer() noexcept { return buffer_; }
  [[nodiscard]] const CudaStreamPlace& place() const noexcept { return place_; }

  DispatchOutput dispatch() { return buffer_.dispatch(input_, options_); }

  DispatchOutput dispatch_expanded() {
    DispatchInput input = input_;
    input.expand = true;
    return buffer_.dispatch(input, options_);
  }

  /// The first element of each row of a dispatch that repeats dispatch_expanded().
  std::vector<std::uint16_t> dispatch_again(const DispatchHandle& handle) {
    const DispatchOutput output = buffer_.dispatch(CachedDispatchInput{.x = input_.x, .handle = handle}, options_);
    const Tensor received = place_.fetch(output.recv_x);
    std::vector<std::uint16_t> firsts;
    for (std::int64_t row = 0; row < handle.num_recv_tokens(); ++row) {
      firsts.push_back(received.data_as<std::uint16_t>()[row * kDispatch.hidden]);
    }
    return firsts;
  }

  /// Each token's sum must be the number of ranks other than the puppet that have one of its experts.
  void round_trip() {
    const DispatchOutput dispatched = dispatch();
    CombineInput input;
    input.x = dispatched.recv_x;
    input.handle = dispatched.handle;
    const CombineOutput output = buffer_.combine(input, options_);
    place_.synchronize();
    const Tensor combined = place_.fetch(output.combined_x);
    const Tensor ids = place_.fetch(*input_.topk_idx);
    constexpr std::array<std::uint16_t, 3> kSums{0, 0x3F80, 0x4000};
    for (std::int64_t token = 0; token < kTokens; ++token) {
      std::set<std::int64_t> ranks;
      for (std::int64_t k = 0; k < kDispatch.num_topk; ++k) {
        ranks.insert(ids.data_as<std::int64_t>()[token * kDispatch.num_topk + k] * kRanks / kDispatch.num_experts);
      }
      ranks.erase(kPuppet);
      const auto* const row = combined.data_as<std::uint16_t>() + token * kDispatch.hidden;
      for (std::int64_t i = 0; i < kDispatch.hidden; ++i) {
        if (row[i] != kSums.at(ranks.size())) throw std::runtime_error("a sum of something else");
      }
    }
  }

  /// A dispatch that fails with `code`, in its call or on the stream, where it then looks as if nothing was received.
  void dispatch_in_vain(ErrorCode code) {
    try {
      const DispatchOutput output = dispatch();
      place_.synchronize();
      const Tensor ids = place_.fetch(*output.recv_topk_idx);
      for (std::int64_t i = 0; i < ids.num_elements(); ++i) {
        if (ids.data_as<std::int64_t>()[i] != -1) throw std::runtime_error("rows of a dispatch that failed");
      }
      dispatch();  // throws, and is none
    } catch (const Error& error) {
      if (error.code() != code) throw;
      return;
    }
    throw std::runtime_error("a dispatch without a rank's rows came to its end");
  }

  /// Both modes' worlds go on without `lost`.
  void go_on_without(int lost) {
    if (buffer_.masked_ranks() != std::vector<int>{lost}) throw std::runtime_error("the rank is not masked");
    for (const RandomWorld& world : random_worlds_of(kRanks, 12)) {
      run_world_or_throw(buffer_, world, masked_world(world, {lost}), place_);
    }
  }

 private:
  CudaStreamPlace place_;
  Buffer buffer_;
  DispatchInput input_;
  OperationOptions options_;
};

/// Without `act` there is no puppet, and all ranks survive.
void run_with_puppet(Completion completion, const std::function<void(Puppet&)>& act,
                     const std::function<void(Survivor&)>& survive) {
  Points points(kRanks);
  run_as_threads(kRanks, [&](const std::shared_ptr<Bootstrap>& bootstrap) {
    std::optional<Puppet> puppet;
    std::optional<Survivor> survivor;
    const CudaStreamPlace place(bootstrap->rank());
    try {
      if (act && bootstrap->rank() == kPuppet) {
        act(puppet.emplace(*bootstrap, options_of(kPuppet), place, kDispatch));
      } else {
        survive(survivor.emplace(bootstrap, completion));
      }
    } catch (...) {
      points.leave();
      throw;
    }
    points.reach();  // giving up a buffer waits for the others' kernels
    points.leave();
  });
}

struct CudaWorstCaseLoss : ::testing::TestWithParam<Completion> {
  void SetUp() override {
    if (const std::string why_not = why_no_cuda_device(); !why_not.empty()) GTEST_SKIP() << why_not;
  }

  /// Announces a dispatch, and stores rubbish over what the others receive for a while after they have given it up.
  void store_for_long(Puppet& puppet) {
    puppet.run(PuppetStep::kAnnounce);
    puppet.run(PuppetStep::kAwaitOthers);
    const auto end = std::chrono::steady_clock::now() + kPatience + Milliseconds(500);
    while (std::chrono::steady_clock::now() < end) puppet.run(PuppetStep::kStore);
    has_stopped = true;
    puppet.run(PuppetStep::kStop);
  }
  void expect_stopped() const {
    if (!has_stopped) throw std::runtime_error("the dispatch ended while its memory was written to");
  }

  std::atomic<bool> has_stopped = false;
};

TEST_P(CudaWorstCaseLoss, WhileItStoresRows) {
  const auto act = [&](Puppet& puppet) { store_for_long(puppet); };
  run_with_puppet(GetParam(), act, [&](Survivor& survivor) {
    survivor.dispatch_in_vain(ErrorCode::kPeerLost);
    expect_stopped();
    survivor.go_on_without(kPuppet);
  });
}

/// Found at once, whether a host waits or not.
TEST_P(CudaWorstCaseLoss, AsItsProcessEnds) {
  const auto act = [](Puppet& puppet) {
    puppet.run(PuppetStep::kAnnounce);
    puppet.run(PuppetStep::kAwaitOthers);
    puppet.leave();
  };
  run_with_puppet(GetParam(), act, [&](Survivor& survivor) {
    survivor.dispatch_in_vain(ErrorCode::kPeerLost);
    survivor.go_on_without(kPuppet);
  });
}

TEST_P(CudaWorstCaseLoss, AndItNeverStops) {
  const auto act = [](Puppet& puppet) { puppet.run(PuppetStep::kAnnounce); };
  run_with_puppet(GetParam(), act, [&](Survivor& survivor) {
    survivor.dispatch_in_vain(ErrorCode::kTimeout);
    survivor.dispatch_in_vain(ErrorCode::kState);  // it is broken
  });
}

/// What was dispatched is there; only the puppet's contributions are missing.
TEST_P(CudaWorstCaseLoss, BetweenDispatchAndCombine) {
  const auto act = [](Puppet& puppet) {
    puppet.run(PuppetStep::kAnnounce);
    puppet.run(PuppetStep::kSend);
    puppet.run(PuppetStep::kStop);
  };
  run_with_puppet(GetParam(), act, [&](Survivor& survivor) {
    survivor.round_trip();
    survivor.go_on_without(kPuppet);
  });
}

/// The puppet gives up another rank, while that one takes its rows.
TEST_P(CudaWorstCaseLoss, OfThisRank) {
  const auto act = [&](Puppet& puppet) {
    puppet.run(PuppetStep::kAwaitRank, kVictim);
    puppet.run(PuppetStep::kGiveUp, kVictim);
    puppet.run(PuppetStep::kAnnounce);
    puppet.run(PuppetStep::kAwaitOthers);
    for (int i = 0; i < 20; ++i) puppet.run(PuppetStep::kStore);
    has_stopped = true;
    puppet.run(PuppetStep::kSend);
    puppet.run(PuppetStep::kStop);
  };
  run_with_puppet(GetParam(), act, [&](Survivor& survivor) {
    survivor.dispatch_in_vain(survivor.buffer().rank() == kVictim ? ErrorCode::kState : ErrorCode::kPeerLost);
    expect_stopped();
    if (survivor.buffer().rank() == kVictim) return survivor.dispatch_in_vain(ErrorCode::kState);
    if (survivor.buffer().masked_ranks() != std::vector<int>{kVictim}) throw std::runtime_error("not masked");
  });
}

INSTANTIATE_TEST_SUITE_P(Completions, CudaWorstCaseLoss,
                         ::testing::Values(Completion::kSynchronous, Completion::kStream));

/// Given up somewhere between its announcement and the end of its rows: either all have it or none.
TEST_F(CudaWorstCaseLoss, OfThisRankSomewhere) {
  for (const int delay_us : {0, 100, 500, 2000, 10'000, 200'000}) {
    std::atomic<int> num_whole = 0;
    std::atomic<int> num_in_vain = 0;
    const auto act = [&](Puppet& puppet) {
      puppet.run(PuppetStep::kAwaitRank, kVictim);
      puppet.run(PuppetStep::kAnnounce);
      std::this_thread::sleep_for(std::chrono::microseconds(delay_us));
      puppet.run(PuppetStep::kGiveUp, kVictim);
      puppet.run(PuppetStep::kSend);
      puppet.run(PuppetStep::kStop);
    };
    run_with_puppet(Completion::kSynchronous, act, [&](Survivor& survivor) {
      const bool is_victim = survivor.buffer().rank() == kVictim;
      if (is_victim) survivor.take_tokens(kMostTokens);
      try {
        static_cast<void>(survivor.dispatch());
        ++num_whole;
      } catch (const Error& error) {
        if (error.code() != (is_victim ? ErrorCode::kState : ErrorCode::kPeerLost)) throw;
        ++num_in_vain;
      }
    });
    EXPECT_TRUE(num_whole == 0 || num_in_vain == 0) << num_whole << " and " << num_in_vain << " at " << delay_us;
  }
}

/// The rows of a rank that is lost are to be zeros, wherever they are: those who did not know of it have to begin
/// again.
TEST_F(CudaWorstCaseLoss, BeforeAnExpandedDispatchIsRepeated) {
  run_with_puppet(Completion::kSynchronous, nullptr, [](Survivor& survivor) {
    const DispatchHandle handle = survivor.dispatch_expanded().handle;
    if (survivor.buffer().rank() == kVictim) return;
    try {
      static_cast<void>(survivor.dispatch_again(handle));
      ADD_FAILURE() << "a rank was lost, and no one noticed";
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kPeerLost) << error.what();
    }
    const std::vector<std::uint16_t> rows = survivor.dispatch_again(handle);
    constexpr std::size_t kOfRank = static_cast<std::size_t>(kTokens * kDispatch.num_topk / kDispatch.num_experts);
    EXPECT_EQ(rows.size(), kOfRank * kDispatch.num_experts);
    for (std::size_t i = 0; i < rows.size(); ++i) {
      EXPECT_EQ(rows[i], i / kOfRank % kRanks == kVictim ? 0 : 0x3F80) << "row " << i;
    }
  });
}

/// A graph with a dispatch in which the puppet is lost; launched again, it goes on without it.
TEST_F(CudaWorstCaseLoss, InAGraph) {
  const auto act = [&](Puppet& puppet) { store_for_long(puppet); };
  std::barrier<> survivors(kRanks - 1);
  run_with_puppet(Completion::kStream, act, [&](Survivor& survivor) {
    DispatchOutput dispatched;
    const auto capture = [&] { dispatched = survivor.dispatch(); };
    const CapturedGraph graph(survivor.place(), capture, [&] { survivors.arrive_and_wait(); });
    graph.launch();
    survivor.place().synchronize();
    expect_stopped();
    if (dispatched.handle.num_recv_tokens() != 0) throw std::runtime_error("rows of a dispatch that failed");
    graph.launch();
    survivor.place().synchronize();
    if (dispatched.handle.num_recv_tokens() == 0) throw std::runtime_error("nothing was received");
    const Tensor received = survivor.place().fetch(dispatched.recv_x);
    const auto* const rows = received.data_as<std::uint16_t>();
    for (std::int64_t i = 0; i < dispatched.handle.num_recv_tokens() * kDispatch.hidden; ++i) {
      if (rows[i] != 0x3F80) throw std::runtime_error("a row of something else");
    }
  });
}

}  // namespace
}  // namespace crossdock::testing
