// Low-latency dispatch and combine on random worlds, ranks as threads, against the oracle bit for bit.
#include "reference/low_latency.hpp"

#include <gtest/gtest.h>

#include <cstring>
#include <mutex>
#include <optional>
#include <string>

#include <crossdock/crossdock.hpp>

#include "support/draw.hpp"
#include "support/ranks.hpp"

namespace crossdock {
namespace {

namespace oracle = reference::low_latency;
using testing::Draw;

/// What a world is, besides what the oracle needs.
struct World {
  oracle::DispatchWorld dispatch;
  oracle::CombineWorld combine;
  std::vector<oracle::DispatchedRank> dispatched;
  std::vector<std::vector<Bfloat16>> combined;
  bool has_int32_ids = false;
};

/// Any bits now and then; else a magnitude of at most `most`.
std::vector<Bfloat16> draw_values(Draw& draw, std::int64_t count, float most = 16.0F) {
  const int odd = draw.chance(50) ? 2 : 0;
  std::vector<Bfloat16> values(static_cast<std::size_t>(count));
  for (auto& value : values) {
    value = draw.chance(odd) ? Bfloat16{static_cast<std::uint16_t>(draw.between(0, 0xFFFF))}
                             : to_bfloat16(static_cast<float>(draw.between(-1000, 1000)) / 1000.0F * most);
  }
  return values;
}

oracle::DispatchRank draw_rank(Draw& draw, const oracle::DispatchWorld& world) {
  oracle::DispatchRank rank;
  rank.num_tokens = draw.chance(15) ? 0 : draw.between(0, world.max_tokens);
  rank.x = draw_values(draw, rank.num_tokens * world.hidden);
  // Distinct experts in a token, so that no expert can get more rows of a rank than there is room for.
  for (std::int64_t t = 0; t < rank.num_tokens; ++t) {
    const std::int64_t first = draw.between(0, world.num_experts - 1);
    for (int k = 0; k < world.num_topk; ++k) {
      rank.topk_idx.push_back(k >= world.num_experts || draw.chance(10) ? -1 : (first + k) % world.num_experts);
    }
  }
  return rank;
}

World draw_world(std::uint64_t seed) {
  Draw draw(seed);
  World world;
  auto& d = world.dispatch;
  const auto num_ranks = static_cast<int>(draw.between(1, 6));
  d.num_experts = static_cast<int>(draw.between(1, 40));
  d.num_topk = static_cast<int>(draw.between(1, 9));
  d.hidden = draw.chance(50) ? draw.between(1, 600) : 128 * draw.between(1, 6);
  d.max_tokens = draw.between(1, 24);
  d.format = static_cast<oracle::RowFormat>(draw.between(0, 3));
  for (int r = 0; r < num_ranks; ++r) d.ranks.push_back(draw_rank(draw, d));
  world.has_int32_ids = draw.chance(30);
  world.dispatched = oracle::dispatch(d);

  auto& c = world.combine;
  c.num_experts = d.num_experts;
  c.num_topk = d.num_topk;
  c.hidden = d.hidden;
  c.max_tokens = d.max_tokens;
  if (draw.chance(25)) c.format = oracle::WireFormat::kLogFmt;
  for (int r = 0; r < num_ranks; ++r) {
    const auto& from = d.ranks[static_cast<std::size_t>(r)];
    oracle::CombineRank rank;
    rank.num_tokens = from.num_tokens;
    rank.topk_idx = from.topk_idx;
    for (std::size_t i = 0; i < from.topk_idx.size(); ++i) {
      rank.topk_weights.push_back(static_cast<float>(draw.between(-64, 64)) / 37.0F);
    }
    const auto local = static_cast<std::int64_t>(world.dispatched[static_cast<std::size_t>(r)].count.size());
    // LogFMT leaves rows with magnitudes of 1 and more as they are.
    rank.x = draw_values(draw, local * num_ranks * d.max_tokens * d.hidden, draw.chance(50) ? 0.9F : 16.0F);
    c.ranks.push_back(std::move(rank));
  }
  world.combined = oracle::combine(c, world.dispatched);
  return world;
}

/// The checks of one rank. Failures are exceptions: GoogleTest's expectations are for one thread.
class RankRun {
 public:
  RankRun(Buffer& buffer, const World& world, std::uint64_t seed)
      : buffer_(buffer),
        world_(world),
        rank_(static_cast<std::size_t>(buffer.rank())),
        expected_(world.dispatched[rank_]),
        seed_(seed) {}

  void run() {
    const LowLatencyDispatchOutput output = dispatch();
    check_rows(output);
    combine(output);
  }

 private:
  void check(bool ok, const std::string& what) const {
    if (!ok)
      throw std::runtime_error("seed " + std::to_string(seed_) + ", rank " + std::to_string(rank_) + ": " + what);
  }

  /// Synchronous, asynchronous and with a hook in turn; ranks differ.
  OperationOptions options() const {
    OperationOptions result;
    result.completion = static_cast<Completion>((seed_ + rank_) % 3);
    return result;
  }

  LowLatencyDispatchOutput dispatch() {
    const auto& d = world_.dispatch;
    const auto& mine = d.ranks[rank_];
    LowLatencyDispatchInput input;
    input.x = Tensor::borrow(mine.x.data(), DataType::kBfloat16, {mine.num_tokens, d.hidden});
    ids32_.assign(mine.topk_idx.begin(), mine.topk_idx.end());
    input.topk_idx = world_.has_int32_ids
                         ? Tensor::borrow(ids32_.data(), DataType::kInt32, {mine.num_tokens, d.num_topk})
                         : Tensor::borrow(mine.topk_idx.data(), DataType::kInt64, {mine.num_tokens, d.num_topk});
    input.num_max_dispatch_tokens_per_rank = d.max_tokens;
    input.num_experts = d.num_experts;
    input.format = static_cast<RowFormat>(d.format);
    statistics_.assign(expected_.count.size(), 5);
    input.cumulative_local_expert_recv_stats =
        Tensor::borrow(statistics_.data(), DataType::kInt32, {static_cast<std::int64_t>(statistics_.size())});
    LowLatencyDispatchOutput output = buffer_.low_latency_dispatch(input, options());
    output.event.wait();
    if (output.hook.defined()) output.hook();
    return output;
  }

  void check_rows(const LowLatencyDispatchOutput& output) const {
    const auto& d = world_.dispatch;
    const std::int64_t places = static_cast<std::int64_t>(d.ranks.size()) * d.max_tokens;
    const auto equal = [](const Tensor& tensor, const auto& values) {
      return tensor.num_bytes() == values.size() * sizeof(values[0]) &&
             (values.empty() || std::memcmp(tensor.data(), values.data(), tensor.num_bytes()) == 0);
    };
    check(equal(output.packed_recv_count, expected_.count), "counts");
    check(equal(output.handle.packed_recv_layout_range(), expected_.layout_range), "layout ranges");
    const std::size_t row_bytes = static_cast<std::size_t>(d.hidden) * size_of(output.packed_recv_x.dtype());
    const std::byte* rows = d.format == oracle::RowFormat::kBfloat16
                                ? reinterpret_cast<const std::byte*>(expected_.x.data())
                                : reinterpret_cast<const std::byte*>(expected_.x_float8.data());
    for (std::size_t e = 0; e < expected_.count.size(); ++e) {
      check(statistics_[e] == 5 + expected_.count[e], "statistics");
      const auto count = static_cast<std::size_t>(expected_.count[e]);
      const std::size_t first = e * static_cast<std::size_t>(places);
      if (count == 0) continue;
      check(std::memcmp(output.packed_recv_x.data_as<std::byte>() + first * row_bytes, rows + first * row_bytes,
                        count * row_bytes) == 0,
            "rows of expert " + std::to_string(e));
      check(std::memcmp(output.handle.packed_recv_src_info().data_as<std::int32_t>() + first,
                        expected_.src_info.data() + first, count * sizeof(std::int32_t)) == 0,
            "source tokens");
      check_scales(output, e, count);
    }
  }

  void check_scales(const LowLatencyDispatchOutput& output, std::size_t expert, std::size_t count) const {
    if (!output.packed_recv_x_scales) {
      check(world_.dispatch.format == oracle::RowFormat::kBfloat16, "scales are missing");
      return;
    }
    const Tensor& scales = *output.packed_recv_x_scales;
    const auto* expected = world_.dispatch.format == oracle::RowFormat::kFloat8Ue8m0
                               ? reinterpret_cast<const std::uint32_t*>(expected_.packed_scales.data())
                               : reinterpret_cast<const std::uint32_t*>(expected_.scales.data());
    for (std::int64_t column = 0; column < scales.size(2); ++column) {
      for (std::size_t row = 0; row < count; ++row) {
        const auto at =
            static_cast<std::size_t>(static_cast<std::int64_t>(expert) * scales.stride(0) +
                                     static_cast<std::int64_t>(row) * scales.stride(1) + column * scales.stride(2));
        check(scales.data_as<std::uint32_t>()[at] == expected[at], "scale of a row");
      }
    }
  }

  void combine(const LowLatencyDispatchOutput& output) {
    const auto& mine = world_.combine.ranks[rank_];
    LowLatencyCombineInput input;
    input.handle = output.handle;
    input.use_logfmt = world_.combine.format == oracle::WireFormat::kLogFmt;
    const Tensor arena_x = buffer_.next_combine_buffer(output.handle);
    if (seed_ % 2 == 0) {
      input.x = arena_x;
      input.zero_copy = seed_ % 4 == 0 && !input.use_logfmt;
      if (!mine.x.empty()) std::memcpy(arena_x.data(), mine.x.data(), arena_x.num_bytes());
    } else {
      input.x = Tensor::own(nullptr, const_cast<Bfloat16*>(mine.x.data()), DataType::kBfloat16, arena_x.shape());
    }
    input.topk_weights =
        Tensor::borrow(mine.topk_weights.data(), DataType::kFloat32, {mine.num_tokens, world_.combine.num_topk});
    const LowLatencyCombineOutput combined = buffer_.low_latency_combine(input, options());
    combined.event.wait();
    if (combined.hook.defined()) combined.hook();
    const auto& expected = world_.combined[rank_];
    check(combined.combined_x.num_bytes() == expected.size() * sizeof(Bfloat16), "size of the result");
    check(expected.empty() ||
              std::memcmp(combined.combined_x.data(), expected.data(), expected.size() * sizeof(Bfloat16)) == 0,
          "combined rows");
  }

  Buffer& buffer_;
  const World& world_;
  std::size_t rank_;
  const oracle::DispatchedRank& expected_;
  std::uint64_t seed_;
  std::vector<std::int32_t> ids32_;
  std::vector<std::int32_t> statistics_;
};

void run_world(std::uint64_t seed) {
  const World world = draw_world(seed);
  testing::run_as_threads(static_cast<int>(world.dispatch.ranks.size()),
                          [&](const std::shared_ptr<Bootstrap>& bootstrap) {
                            BufferOptions options;
                            options.arena_bytes = std::size_t{8} << 20U;
                            options.timeout = std::chrono::seconds(20);
                            options.huge_pages = HugePages::kNever;
                            Buffer buffer(bootstrap, options);
                            RankRun(buffer, world, seed).run();
                          });
}

TEST(LowLatencyTest, EqualsTheOracleOnRandomWorlds) {
  for (std::uint64_t seed = 1; seed <= 150; ++seed) ASSERT_NO_THROW(run_world(seed)) << "seed " << seed;
}

/// A small dispatch that needs no oracle: token t of every rank to expert t % E.
LowLatencyDispatchInput small_input(const std::vector<Bfloat16>& x, const std::vector<std::int64_t>& ids,
                                    int num_experts) {
  LowLatencyDispatchInput input;
  const auto tokens = static_cast<std::int64_t>(ids.size());
  input.x = Tensor::borrow(x.data(), DataType::kBfloat16, {tokens, static_cast<std::int64_t>(x.size() / ids.size())});
  input.topk_idx = Tensor::borrow(ids.data(), DataType::kInt64, {tokens, 1});
  input.num_max_dispatch_tokens_per_rank = tokens;
  input.num_experts = num_experts;
  input.format = RowFormat::kBfloat16;
  return input;
}

TEST(LowLatencyTest, EightOperationsMayBeInFlight) {
  testing::run_as_threads(3, [](const std::shared_ptr<Bootstrap>& bootstrap) {
    Buffer buffer(bootstrap, {.arena_bytes = std::size_t{8} << 20U, .timeout = std::chrono::seconds(20)});
    const std::vector<std::int64_t> ids = {0, 1, 2, 3};
    const std::vector<Bfloat16> x(4 * 64, to_bfloat16(static_cast<float>(buffer.rank() + 1)));
    OperationOptions hooked;
    hooked.completion = Completion::kHook;
    std::vector<LowLatencyDispatchOutput> outputs;
    for (int i = 0; i < 8; ++i) outputs.push_back(buffer.low_latency_dispatch(small_input(x, ids, 4), hooked));
    for (const auto& output : outputs) output.hook();
    for (const auto& output : outputs) {
      const auto* rows = output.packed_recv_x.data_as<Bfloat16>();
      for (int src = 0; src < 3; ++src) {
        if (!(rows[src * 64] == to_bfloat16(static_cast<float>(src + 1)))) throw std::runtime_error("a wrong row");
      }
    }
  });
}

TEST(LowLatencyTest, ADroppedHookIsAnErrorOfTheNextOperationOnAllRanks) {
  testing::run_as_threads(2, [](const std::shared_ptr<Bootstrap>& bootstrap) {
    Buffer buffer(bootstrap, {.arena_bytes = std::size_t{8} << 20U, .timeout = std::chrono::seconds(20)});
    const std::vector<std::int64_t> ids = {0, 1};
    const std::vector<Bfloat16> x(2 * 64, to_bfloat16(1.0F));
    {
      OperationOptions hooked;
      hooked.completion = Completion::kHook;
      const auto output = buffer.low_latency_dispatch(small_input(x, ids, 2), hooked);
      if (buffer.rank() == 0) output.hook();
    }
    std::optional<ErrorCode> code;
    try {
      static_cast<void>(buffer.low_latency_dispatch(small_input(x, ids, 2)));
    } catch (const Error& error) {
      code = error.code();
    }
    if (code != ErrorCode::kState) throw std::runtime_error("the dropped hook was not noticed");
    static_cast<void>(buffer.low_latency_dispatch(small_input(x, ids, 2)));
  });
}

TEST(LowLatencyTest, AHookIsCalledOnce) {
  testing::run_as_threads(1, [](const std::shared_ptr<Bootstrap>& bootstrap) {
    Buffer buffer(bootstrap, {.arena_bytes = std::size_t{1} << 20U});
    const std::vector<std::int64_t> ids = {0};
    const std::vector<Bfloat16> x(64, to_bfloat16(1.0F));
    OperationOptions hooked;
    hooked.completion = Completion::kHook;
    const auto output = buffer.low_latency_dispatch(small_input(x, ids, 1), hooked);
    output.hook();
    bool was_refused = false;
    try {
      output.hook();
    } catch (const Error& error) {
      was_refused = error.code() == ErrorCode::kState;
    }
    if (!was_refused) throw std::runtime_error("a second call was not refused");
  });
}

}  // namespace
}  // namespace crossdock
