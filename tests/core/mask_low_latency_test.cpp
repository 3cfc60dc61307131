// Masked and lost ranks in low-latency mode, ranks as threads, against the oracle bit for bit.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <barrier>
#include <cstring>
#include <functional>
#include <stdexcept>
#include <string>
#include <vector>

#include <crossdock/buffer.hpp>

#include "core/refusal.hpp"
#include "reference/low_latency.hpp"
#include "support/draw.hpp"
#include "support/ranks.hpp"

namespace crossdock::testing {
namespace {

namespace oracle = reference::low_latency;

constexpr int kRanks = 4;
constexpr int kMasked = 2;
constexpr Milliseconds kTimeout{300};

/// Inputs of all ranks; what comes of them follows from who is masked.
struct World {
  oracle::DispatchWorld dispatch;
  oracle::CombineWorld combine;
};

std::vector<Bfloat16> draw_values(Draw& draw, std::int64_t count) {
  std::vector<Bfloat16> values(static_cast<std::size_t>(count));
  for (auto& value : values) value = to_bfloat16(static_cast<float>(draw.between(-1000, 1000)) / 64.0F);
  return values;
}

World draw_world(std::uint64_t seed) {
  Draw draw(seed);
  World world;
  world.dispatch.num_experts = static_cast<int>(draw.between(kRanks, 14));
  world.dispatch.num_topk = static_cast<int>(draw.between(1, 4));
  world.dispatch.hidden = draw.between(1, 300);
  world.dispatch.max_tokens = draw.between(1, 12);
  world.dispatch.format = draw.one_of({oracle::RowFormat::kBfloat16, oracle::RowFormat::kFloat8});
  world.combine = {.num_experts = world.dispatch.num_experts,
                   .num_topk = world.dispatch.num_topk,
                   .hidden = world.dispatch.hidden,
                   .max_tokens = world.dispatch.max_tokens,
                   .is_masked = {},
                   .ranks = {}};
  const std::int64_t places = kRanks * world.dispatch.max_tokens;
  for (int r = 0; r < kRanks; ++r) {
    oracle::DispatchRank& rank = world.dispatch.ranks.emplace_back();
    rank.num_tokens = draw.between(0, world.dispatch.max_tokens);
    rank.x = draw_values(draw, rank.num_tokens * world.dispatch.hidden);
    oracle::CombineRank& back = world.combine.ranks.emplace_back();
    back.num_tokens = rank.num_tokens;
    for (std::int64_t i = 0; i < rank.num_tokens * world.dispatch.num_topk; ++i) {
      const std::int64_t expert = (i / world.dispatch.num_topk + 3 * (i % world.dispatch.num_topk) + r);
      rank.topk_idx.push_back(draw.chance(10) ? -1 : expert % world.dispatch.num_experts);
      back.topk_weights.push_back(static_cast<float>(draw.between(-64, 64)) / 37.0F);
    }
    back.topk_idx = rank.topk_idx;
    const std::int64_t local = world.dispatch.num_experts / kRanks + (r < world.dispatch.num_experts % kRanks ? 1 : 0);
    back.x = draw_values(draw, local * places * world.dispatch.hidden);
  }
  return world;
}

/// A token that names an expert twice may find no room for it.
World make_world(std::uint64_t seed) {
  for (;; seed += 1000) {
    try {
      World world = draw_world(seed);
      static_cast<void>(oracle::dispatch(world.dispatch));
      return world;
    } catch (const Error&) {
      continue;
    }
  }
}

std::vector<std::uint8_t> flags_of(const std::vector<int>& masked) {
  std::vector<std::uint8_t> flags(kRanks);
  for (const int rank : masked) flags[static_cast<std::size_t>(rank)] = 1;
  return flags;
}

void demand(bool condition, const std::string& what) {
  if (!condition) throw std::runtime_error(what);
}

/// One rank's pair of operations; `completion` differs between ranks and calls.
class Pair {
 public:
  Pair(Buffer& buffer, const World& world)
      : buffer_(buffer), world_(world), rank_(static_cast<std::size_t>(buffer.rank())) {}

  LowLatencyDispatchOutput dispatch(Completion completion) {
    const oracle::DispatchRank& mine = world_.dispatch.ranks[rank_];
    LowLatencyDispatchInput input;
    input.x = Tensor::borrow(mine.x.data(), DataType::kBfloat16, {mine.num_tokens, world_.dispatch.hidden});
    input.topk_idx =
        Tensor::borrow(mine.topk_idx.data(), DataType::kInt64, {mine.num_tokens, world_.dispatch.num_topk});
    input.num_max_dispatch_tokens_per_rank = world_.dispatch.max_tokens;
    input.num_experts = world_.dispatch.num_experts;
    input.format = static_cast<RowFormat>(world_.dispatch.format);
    OperationOptions options;
    options.completion = completion;
    LowLatencyDispatchOutput output = buffer_.low_latency_dispatch(input, options);
    output.event.wait();
    return output;
  }

  void check(const LowLatencyDispatchOutput& output, const std::vector<int>& masked) const {
    oracle::DispatchWorld world = world_.dispatch;
    world.is_masked = flags_of(masked);
    const oracle::DispatchedRank expected = oracle::dispatch(world)[rank_];
    const auto starts_with = [](const Tensor& tensor, const void* values, std::size_t at, std::size_t bytes) {
      return bytes == 0 ||
             std::memcmp(tensor.data_as<std::byte>() + at, static_cast<const std::byte*>(values) + at, bytes) == 0;
    };
    demand(starts_with(output.packed_recv_count, expected.count.data(), 0, expected.count.size() * 4), "counts");
    demand(starts_with(output.handle.packed_recv_layout_range(), expected.layout_range.data(), 0,
                       expected.layout_range.size() * 8),
           "ranges");
    const auto places = static_cast<std::size_t>(kRanks * world.max_tokens);
    const std::size_t row_bytes = static_cast<std::size_t>(world.hidden) * size_of(output.packed_recv_x.dtype());
    const void* rows = expected.x.empty() ? static_cast<const void*>(expected.x_float8.data()) : expected.x.data();
    for (std::size_t e = 0; e < expected.count.size(); ++e) {
      const auto count = static_cast<std::size_t>(expected.count[e]);
      demand(starts_with(output.packed_recv_x, rows, e * places * row_bytes, count * row_bytes), "rows");
      demand(starts_with(output.handle.packed_recv_src_info(), expected.src_info.data(), e * places * 4, count * 4),
             "source tokens");
    }
  }

  LowLatencyCombineOutput combine(const LowLatencyHandle& handle, Completion completion) {
    const oracle::CombineRank& mine = world_.combine.ranks[rank_];
    LowLatencyCombineInput input;
    input.handle = handle;
    input.x = buffer_.next_combine_buffer(handle);
    if (!mine.x.empty()) std::memcpy(input.x.data(), mine.x.data(), input.x.num_bytes());
    input.topk_weights =
        Tensor::borrow(mine.topk_weights.data(), DataType::kFloat32, {mine.num_tokens, world_.combine.num_topk});
    OperationOptions options;
    options.completion = completion;
    LowLatencyCombineOutput output = buffer_.low_latency_combine(input, options);
    output.event.wait();
    return output;
  }

  /// `at_dispatch` were masked then, `now` are masked since.
  void check(const LowLatencyCombineOutput& output, const std::vector<int>& at_dispatch,
             const std::vector<int>& now) const {
    oracle::DispatchWorld dispatched = world_.dispatch;
    dispatched.is_masked = flags_of(at_dispatch);
    oracle::CombineWorld world = world_.combine;
    world.is_masked = flags_of(now);
    const std::vector<Bfloat16> expected = oracle::combine(world, oracle::dispatch(dispatched))[rank_];
    demand(output.combined_x.num_bytes() == expected.size() * sizeof(Bfloat16), "size of the sums");
    demand(
        expected.empty() || std::memcmp(output.combined_x.data(), expected.data(), output.combined_x.num_bytes()) == 0,
        "sums");
  }

  void run(const std::vector<int>& masked, std::uint64_t seed = 0) {
    const auto completion = static_cast<Completion>((seed + rank_) % 3);
    const LowLatencyDispatchOutput output = dispatch(completion);
    if (output.hook.defined()) output.hook();
    check(output, masked);
    const LowLatencyCombineOutput combined = combine(output.handle, completion);
    if (combined.hook.defined()) combined.hook();
    check(combined, masked, masked);
  }

 private:
  Buffer& buffer_;
  const World& world_;
  std::size_t rank_;
};

using Body = std::function<void(Buffer&, const World&, const std::function<void()>& meet)>;

void run_ranks(const BufferOptions& options, const World& world, const Body& body) {
  std::barrier<> barrier(kRanks);
  run_as_threads(kRanks, [&](const std::shared_ptr<Bootstrap>& bootstrap) {
    Buffer buffer(bootstrap, options);
    try {
      body(buffer, world, [&] { barrier.arrive_and_wait(); });
      barrier.arrive_and_wait();
    } catch (...) {
      barrier.arrive_and_drop();
      throw;
    }
  });
}

BufferOptions lossy_options() {
  BufferOptions options = roomy_options();
  options.mask_lost_ranks = true;
  options.timeout = kTimeout;
  return options;
}

void expect_masked(const std::function<void()>& call) {
  try {
    call();
    ADD_FAILURE() << "nothing was thrown";
  } catch (const Error& error) {
    EXPECT_EQ(name_of(error.code()), name_of(ErrorCode::kState)) << error.what();
    EXPECT_THAT(error.what(), ::testing::HasSubstr("masked"));
  }
}

TEST(LowLatencyMask, EqualsTheOracleAndIsLetInAgain) {
  for (std::uint64_t seed = 1; seed <= 40; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    std::vector<int> masked{static_cast<int>(seed % kRanks)};
    if (seed % 3 == 0) masked = {0, 3};
    run_ranks(roomy_options(), make_world(seed), [&](Buffer& buffer, const World& world, const auto& meet) {
      Pair pair(buffer, world);
      pair.run({}, seed);
      const bool is_out = std::ranges::find(masked, buffer.rank()) != masked.end();
      if (!is_out) {
        for (const int rank : masked) buffer.mask_rank(rank);
        for (int i = 0; i < 3; ++i) pair.run(masked, seed);
      }
      meet();
      if (is_out) expect_masked([&] { static_cast<void>(pair.dispatch(Completion::kSynchronous)); });
      meet();
      buffer.clear_masks();
      meet();
      for (int i = 0; i < 3; ++i) pair.run({}, seed);
    });
  }
}

TEST(LowLatencyMask, LeavesContributionsOutOfACombineOfAnEarlierDispatch) {
  for (std::uint64_t seed = 1; seed <= 20; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    run_ranks(roomy_options(), make_world(seed), [&](Buffer& buffer, const World& world, const auto& meet) {
      Pair pair(buffer, world);
      const LowLatencyDispatchOutput output = pair.dispatch(Completion::kSynchronous);
      meet();
      if (buffer.rank() == kMasked) return meet();
      buffer.mask_rank(kMasked);
      pair.check(pair.combine(output.handle, Completion::kSynchronous), {}, {kMasked});
      meet();
    });
  }
}

TEST(LowLatencyMask, SetBetweenTheHalvesCountsForTheNextOperation) {
  run_ranks(roomy_options(), make_world(5), [](Buffer& buffer, const World& world, const auto& meet) {
    Pair pair(buffer, world);
    const LowLatencyDispatchOutput output = pair.dispatch(Completion::kHook);
    if (buffer.rank() != kMasked) buffer.mask_rank(kMasked);
    meet();
    output.hook();
    pair.check(output, {});
    meet();
    if (buffer.rank() != kMasked) pair.run({kMasked});
  });
}

TEST(LowLatencyLoss, BeforeItAnnounces) {
  run_ranks(lossy_options(), make_world(7), [](Buffer& buffer, const World& world, const auto& meet) {
    Pair pair(buffer, world);
    if (buffer.rank() != kMasked) {
      for (int i = 0; i < 20; ++i) pair.run({kMasked});
      EXPECT_EQ(buffer.masked_ranks(), std::vector<int>{kMasked});
    }
    meet();
    if (buffer.rank() == kMasked) expect_masked([&] { static_cast<void>(pair.dispatch(Completion::kSynchronous)); });
    meet();
    buffer.clear_masks();
    meet();
    for (int i = 0; i < 20; ++i) pair.run({});
  });
}

TEST(LowLatencyLoss, BetweenDispatchAndCombineContributesNothing) {
  run_ranks(lossy_options(), make_world(9), [](Buffer& buffer, const World& world, const auto& meet) {
    Pair pair(buffer, world);
    const LowLatencyDispatchOutput output = pair.dispatch(Completion::kSynchronous);
    pair.check(output, {});
    if (buffer.rank() != kMasked) {
      pair.check(pair.combine(output.handle, Completion::kSynchronous), {}, {kMasked});
    }
    meet();
    if (buffer.rank() == kMasked) {
      expect_masked([&] { static_cast<void>(pair.combine(output.handle, Completion::kSynchronous)); });
    }
    meet();
  });
}

/// It has sent its rows, so they count; its own hook is called too late, after its slots were given to others.
TEST(LowLatencyLoss, BetweenTheHalvesOfADispatch) {
  run_ranks(lossy_options(), make_world(11), [](Buffer& buffer, const World& world, const auto& meet) {
    Pair pair(buffer, world);
    const LowLatencyDispatchOutput output = pair.dispatch(Completion::kHook);
    meet();
    if (buffer.rank() != kMasked) {
      output.hook();
      pair.check(output, {});
      for (int i = 0; i < 20; ++i) pair.run({kMasked});
    }
    meet();
    if (buffer.rank() == kMasked) expect_masked([&] { output.hook(); });
    meet();
    buffer.clear_masks();
    meet();
    for (int i = 0; i < 20; ++i) pair.run({});
  });
}

TEST(LowLatencyLoss, BetweenTheHalvesOfACombine) {
  run_ranks(lossy_options(), make_world(13), [](Buffer& buffer, const World& world, const auto& meet) {
    Pair pair(buffer, world);
    const LowLatencyDispatchOutput output = pair.dispatch(Completion::kSynchronous);
    const LowLatencyCombineOutput combined = pair.combine(output.handle, Completion::kHook);
    meet();
    if (buffer.rank() != kMasked) {
      combined.hook();
      pair.check(combined, {}, {});
      for (int i = 0; i < 20; ++i) pair.run({kMasked});
    }
    meet();
    if (buffer.rank() == kMasked) expect_masked([&] { combined.hook(); });
    meet();
    buffer.clear_masks();
    meet();
    for (int i = 0; i < 20; ++i) pair.run({});
  });
}

/// The buffer gives up what its hook would have received, without a word: nobody waits for it.
TEST(LowLatencyLoss, WithAHookThatIsNeverCalled) {
  run_ranks(lossy_options(), make_world(15), [](Buffer& buffer, const World& world, const auto& meet) {
    Pair pair(buffer, world);
    const LowLatencyDispatchOutput output = pair.dispatch(Completion::kSynchronous);
    if (buffer.rank() != kMasked) {
      pair.check(pair.combine(output.handle, Completion::kSynchronous), {}, {kMasked});
      return meet();
    }
    meet();
    buffer.destroy();
  });
}

}  // namespace
}  // namespace crossdock::testing
