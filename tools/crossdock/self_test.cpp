#include "crossdock/self_test.hpp"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstring>
#include <vector>

#include <crossdock/buffer.hpp>

#include "base/bfloat16.hpp"
#include "base/error.hpp"
#include "crossdock/random.hpp"
#include "crossdock/rank_launcher.hpp"
#include "crossdock/shared_block.hpp"
#include "reference/throughput.hpp"

namespace crossdock::tool {

namespace {

using namespace std::chrono_literals;

constexpr int kRanks = 4;
constexpr int kRounds = 60;
constexpr int kExperts = 10;
constexpr int kTopk = 3;
constexpr std::int64_t kHidden = 96;
constexpr std::uint32_t kMostTokens = 200;

std::span<const std::byte> bytes_of(const Tensor& tensor) { return {tensor.data_as<std::byte>(), tensor.num_bytes()}; }

template <typename T>
bool equal(const Tensor& tensor, const std::vector<T>& expected) {
  const auto bytes = std::as_bytes(std::span(expected));
  const auto actual = bytes_of(tensor);
  return std::equal(actual.begin(), actual.end(), bytes.begin(), bytes.end());
}

void check(bool condition, int round, const char* what) {
  if (!condition) throw make_error(ErrorCode::kState, "round {}: {} differ from the reference", round, what);
}

std::byte random_byte(Random& random) { return static_cast<std::byte>(random.below(256)); }

/// Finite bfloat16 numbers of size 1/8 to 8.
void append_value(std::vector<std::byte>& bytes, Random& random) {
  const auto value = static_cast<float>(random.below(2001)) / 125.0F - 8.0F;
  const auto bits = to_bfloat16(value + (value < 0 ? -0.125F : 0.125F)).bits;
  bytes.push_back(static_cast<std::byte>(bits & 0xFFU));
  bytes.push_back(static_cast<std::byte>(bits >> 8U));
}

reference::DispatchRank make_rank(Random& random) {
  reference::DispatchRank rank;
  rank.num_tokens = random.below(8) == 0 ? 0 : random.below(kMostTokens);
  for (std::int64_t i = 0; i < rank.num_tokens * kHidden; ++i) append_value(rank.x, random);
  for (std::int64_t i = 0; i < rank.num_tokens * 8; ++i) rank.scales.push_back(random_byte(random));
  for (std::int64_t i = 0; i < rank.num_tokens * kTopk; ++i) {
    rank.topk_idx.push_back(static_cast<std::int64_t>(random.below(kExperts + 2)) - 1);
    if (rank.topk_idx.back() == kExperts) rank.topk_idx.back() = 0;  // one expert is liked more
    rank.topk_weights.push_back(static_cast<float>(random.below(1000)) / 1000.0F);
  }
  return rank;
}

reference::DispatchWorld make_world(std::uint64_t seed, int round) {
  Random random(seed * 1000 + static_cast<std::uint64_t>(round));
  reference::DispatchWorld world;
  world.num_experts = kExperts;
  world.num_topk = kTopk;
  world.row_bytes = kHidden * 2;
  world.scale_row_bytes = 8;
  for (int rank = 0; rank < kRanks; ++rank) world.ranks.push_back(make_rank(random));
  return world;
}

DispatchInput make_input(const reference::DispatchRank& rank) {
  const void* x = rank.x.data();
  const void* scales = rank.scales.data();
  const void* ids = rank.topk_idx.data();
  const void* weights = rank.topk_weights.data();
  DispatchInput input;
  input.num_experts = kExperts;
  input.x = Tensor::borrow(x, DataType::kBfloat16, {rank.num_tokens, kHidden});
  input.x_scales = Tensor::borrow(scales, DataType::kFloat32, {rank.num_tokens, 2});
  input.topk_idx = Tensor::borrow(ids, DataType::kInt64, {rank.num_tokens, kTopk});
  input.topk_weights = Tensor::borrow(weights, DataType::kFloat32, {rank.num_tokens, kTopk});
  return input;
}

/// An expert that changes its rows, each rank in its own way.
void change_rows(std::span<std::byte> rows, int rank) {
  for (std::size_t i = 0; i < rows.size(); i += 2) rows[i] ^= static_cast<std::byte>(rank + 1);
}

std::vector<reference::CombinedRank> combine_with_reference(const std::vector<reference::DispatchedRank>& dispatched,
                                                            const reference::DispatchWorld& world) {
  reference::CombineWorld combine{DataType::kBfloat16, kHidden, kTopk, {}};
  for (std::size_t rank = 0; rank < dispatched.size(); ++rank) {
    reference::CombineRank mine;
    mine.num_tokens = world.ranks[rank].num_tokens;
    mine.x = dispatched[rank].recv_x;
    change_rows(mine.x, static_cast<int>(rank));
    mine.topk_weights = dispatched[rank].recv_topk_weights;
    combine.ranks.push_back(std::move(mine));
  }
  return reference::combine(combine, dispatched);
}

void run_round(Buffer& buffer, std::uint64_t seed, int round) {
  const auto world = make_world(seed, round);
  const auto rank = static_cast<std::size_t>(buffer.rank());
  const auto dispatched = reference::dispatch(world);
  const auto combined = combine_with_reference(dispatched, world);

  const DispatchOutput output = buffer.dispatch(make_input(world.ranks[rank]));
  const auto& expected = dispatched[rank];
  check(output.recv_x.size(0) == expected.num_recv_tokens, round, "numbers of rows");
  check(equal(output.recv_x, expected.recv_x), round, "received rows");
  check(equal(*output.recv_x_scales, expected.recv_scales), round, "received scales");
  check(equal(*output.recv_topk_idx, expected.recv_topk_idx), round, "received ids");
  check(equal(*output.recv_topk_weights, expected.recv_topk_weights), round, "received weights");
  check(equal(output.handle.recv_src_idx(), expected.recv_src_idx), round, "source tokens");
  check(output.num_recv_tokens_per_expert == expected.num_tokens_per_expert, round, "expert counts");

  change_rows({output.recv_x.data_as<std::byte>(), output.recv_x.num_bytes()}, buffer.rank());
  CombineInput input;
  input.x = output.recv_x;
  input.handle = output.handle;
  input.topk_weights = output.recv_topk_weights;
  const CombineOutput result = buffer.combine(input);
  check(equal(result.combined_x, combined[rank].combined_x), round, "combined rows");
  check(equal(*result.combined_topk_weights, combined[rank].combined_topk_weights), round, "combined weights");
}

void run_rank(std::uint64_t seed, std::atomic<std::int64_t>& rows, const std::shared_ptr<Bootstrap>& bootstrap) {
  BufferOptions options;
  options.arena_bytes = 4U << 20U;
  options.max_experts = kExperts;
  options.timeout = 30s;
  options.setup_timeout = 30s;
  Buffer buffer(bootstrap, options);
  for (int round = 0; round < kRounds; ++round) {
    run_round(buffer, seed, round);
    rows.fetch_add(1, std::memory_order_relaxed);
  }
}

}  // namespace

SelfTestResult run_self_test(std::uint64_t seed) noexcept {
  try {
    const SharedBlock<std::atomic<std::int64_t>> rounds(1);
    LaunchOptions launch;
    launch.num_ranks = kRanks;
    launch.timeout = 120s;
    const auto start = std::chrono::steady_clock::now();
    run_ranks_or_throw(launch,
                       [&](const std::shared_ptr<Bootstrap>& bootstrap) { run_rank(seed, rounds[0], bootstrap); });
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    constexpr std::int64_t kExpected = std::int64_t{kRanks} * kRounds;
    if (rounds[0] != kExpected) return {false, fmt::format("only {} of {} rounds ran", rounds[0].load(), kExpected)};
    return {true,
            fmt::format("{} processes, {} random rounds of dispatch and combine equal the serial reference ({:.1f} s)",
                        kRanks, kRounds, seconds)};
  } catch (const std::exception& error) {
    return {false, error.what()};
  }
}

}  // namespace crossdock::tool
