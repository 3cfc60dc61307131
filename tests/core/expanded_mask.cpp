#include "core/expanded_mask.hpp"

#include <algorithm>
#include <cstddef>
#include <span>

#include "reference/throughput.hpp"

namespace crossdock::testing {

namespace {

constexpr int kMasked = 2;
constexpr int kNumTopk = 3;
constexpr MatrixShape kRow{DataType::kFloat32, 5};
constexpr MatrixShape kScales{DataType::kUint8, 3};

/// Every element of x and of the scales is not zero, whatever the bytes mean.
reference::DispatchWorld make_world() {
  reference::DispatchWorld world{
      .num_experts = 7, .num_topk = kNumTopk, .row_bytes = kRow.row_bytes(), .scale_row_bytes = 3, .ranks = {}};
  world.expand = true;
  world.expert_alignment = 4;
  for (int r = 0; r < kExpandedMaskRanks; ++r) {
    reference::DispatchRank& rank = world.ranks.emplace_back();
    rank.num_tokens = 9 + r;
    for (std::int64_t t = 0; t < rank.num_tokens; ++t) {
      for (int k = 0; k < kNumTopk; ++k) {
        const std::int64_t choice = (std::int64_t{5} * r + 3 * t + std::int64_t{4} * k) % 8;
        rank.topk_idx.push_back(choice - 1);
        rank.topk_weights.push_back(static_cast<float>(choice) * 0.25F + 1.0F);
      }
    }
    const auto tokens = static_cast<std::size_t>(rank.num_tokens);
    for (std::size_t i = 0; i < tokens * kRow.row_bytes(); ++i) {
      rank.x.push_back(static_cast<std::byte>(1 + (i + 31 * static_cast<std::size_t>(r)) % 127));
    }
    rank.scales.assign(tokens * 3, static_cast<std::byte>(0x40 + r));
  }
  return world;
}

template <typename T>
std::span<const std::byte> bytes_of(const std::vector<T>& values) {
  return std::as_bytes(std::span(values));
}

DispatchInput make_input(const reference::DispatchWorld& world, const reference::DispatchRank& rank,
                         const TensorPlace& place) {
  DispatchInput input;
  input.x = place.place(make_rows(kRow, rank.x));
  input.x_scales = place.place(make_rows(kScales, rank.scales));
  input.topk_idx = place.place(make_matrix<std::int64_t>(DataType::kInt64, kNumTopk, rank.topk_idx));
  input.topk_weights = place.place(make_matrix<float>(DataType::kFloat32, kNumTopk, rank.topk_weights));
  input.num_experts = world.num_experts;
  input.expert_alignment = world.expert_alignment;
  input.expand = true;
  return input;
}

/// Rows of the masked rank keep their places and are zero.
void clear_masked(reference::DispatchedRank& rank) {
  for (std::size_t row = 0; row < rank.recv_src_rank.size(); ++row) {
    if (rank.recv_src_rank[row] != kMasked) continue;
    std::fill_n(rank.recv_x.begin() + static_cast<std::ptrdiff_t>(row * kRow.row_bytes()), kRow.row_bytes(),
                std::byte{0});
    std::fill_n(rank.recv_scales.begin() + static_cast<std::ptrdiff_t>(row * kScales.row_bytes()), kScales.row_bytes(),
                std::byte{0});
  }
}

/// Of rows as they were received, without the masked rank's.
reference::CombinedRank combine_without_masked(const reference::DispatchWorld& world,
                                               std::vector<reference::DispatchedRank> dispatched, std::size_t rank) {
  dispatched[kMasked] = {};
  reference::CombineWorld combine{
      .dtype = DataType::kFloat32, .hidden = kRow.columns, .num_topk = kNumTopk, .ranks = {}};
  for (std::size_t r = 0; r < dispatched.size(); ++r) {
    combine.ranks.push_back({.num_tokens = world.ranks[r].num_tokens,
                             .x = dispatched[r].recv_x,
                             .topk_weights = dispatched[r].recv_topk_weights,
                             .bias_0 = {},
                             .bias_1 = {}});
  }
  return reference::combine(combine, dispatched)[rank];
}

}  // namespace

std::vector<std::string> run_expanded_mask(Buffer& buffer, const TensorPlace& place, const std::function<void()>& meet,
                                           bool with_worst_case) {
  const auto rank = static_cast<std::size_t>(buffer.rank());
  const reference::DispatchWorld world = make_world();
  const std::vector<reference::DispatchedRank> expected = reference::dispatch(world);
  const auto num_rows = static_cast<std::int64_t>(expected[rank].recv_src_rank.size());
  const std::int64_t num_tokens = world.ranks[rank].num_tokens;
  Differences differences(place);

  OperationOptions options;
  options.stream = place.stream();
  DispatchInput input = make_input(world, world.ranks[rank], place);
  if (with_worst_case) input.num_worst_tokens = num_rows;
  const DispatchOutput first = buffer.dispatch(input, options);
  differences.compare_rows("recv_x", first.recv_x, kRow, num_rows, expected[rank].recv_x);
  meet();
  if (buffer.rank() == kMasked) {
    meet();
    return differences.lines();
  }
  buffer.mask_rank(kMasked);
  const DispatchOutput again = buffer.dispatch({input.x, input.x_scales, first.handle, std::nullopt}, options);
  reference::DispatchedRank cleared = expected[rank];
  clear_masked(cleared);
  differences.compare_rows("recv_x of a cached dispatch", again.recv_x, kRow, num_rows, cleared.recv_x);
  differences.compare_rows("recv_x_scales of a cached dispatch", *again.recv_x_scales, kScales, num_rows,
                           cleared.recv_scales);

  CombineInput combine;
  combine.x = first.recv_x;
  combine.handle = first.handle;
  combine.topk_weights = first.recv_topk_weights;
  const CombineOutput combined = buffer.combine(combine, options);
  const reference::CombinedRank sums = combine_without_masked(world, expected, rank);
  differences.compare_rows("combined_x", combined.combined_x, kRow, num_tokens, sums.combined_x);
  differences.compare_rows("combined_topk_weights", *combined.combined_topk_weights, {DataType::kFloat32, kNumTopk},
                           num_tokens, bytes_of(sums.combined_topk_weights));
  meet();
  return differences.lines();
}

}  // namespace crossdock::testing
