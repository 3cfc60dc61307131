#include "plan/layout.hpp"

#include <algorithm>
#include <array>

#include "base/error.hpp"

namespace crossdock::plan {

namespace {

/// Tokens are counted in blocks so small that a byte holds a block's count, which lets ranks be summed bytewise; a
/// block of the membership table also stays in the first-level cache between marking and counting.
constexpr std::int64_t kBlockTokens = 128;
/// Ranks that are summed at once.
constexpr std::size_t kBlockRanks = 16;

/// Experts whose owners are looked up in a table on the stack, which takes a third of the time of computing them.
constexpr int kTableExperts = 4096;

/// Takes values: in the loop that calls it, indices whose address is taken would live in memory.
[[noreturn]] void throw_bad_id(std::int64_t token, std::int64_t column, std::int64_t id, int num_experts) {
  throw make_error(ErrorCode::kInvalidArgument, "topk_idx[{}][{}] is {}; allowed are -1 and 0 to {}", token, column, id,
                   num_experts - 1);
}

/// Counts the experts selected by tokens [begin, end) and marks their owners in the tokens' (zeroed) membership rows.
template <typename Id, typename OwnerOf>
void mark(const Id* ids, std::int64_t begin, std::int64_t end, std::int64_t num_topk, int num_experts,
          const OwnerOf& owner_of, const LayoutSpans& out) {
  const std::size_t num_ranks = out.num_tokens_per_rank.size();
  std::int32_t* const per_expert = out.num_tokens_per_expert.data();
  for (std::int64_t t = begin; t < end; ++t) {
    std::uint8_t* const row = out.is_token_in_rank.data() + static_cast<std::size_t>(t) * num_ranks;
    const Id* const selected = ids + t * num_topk;
    for (std::int64_t k = 0; k < num_topk; ++k) {
      const Id id = selected[k];
      if (static_cast<std::uint64_t>(id) < static_cast<std::uint64_t>(num_experts)) [[likely]] {
        ++per_expert[id];
        row[owner_of(static_cast<int>(id))] = 1;
      } else if (id != -1) {
        throw_bad_id(t, k, static_cast<std::int64_t>(id), num_experts);
      }
    }
  }
}

/// Adds the membership rows of one block of tokens to the counts of `count` ranks, kBlockRanks at most.
void add_rows(const std::uint8_t* rows, std::int64_t num_rows, std::size_t stride, std::size_t count,
              std::int32_t* per_rank) {
  std::array<std::uint8_t, kBlockRanks> sums{};
  if (count == kBlockRanks) {
    for (std::int64_t t = 0; t < num_rows; ++t, rows += stride) {
      for (std::size_t r = 0; r < kBlockRanks; ++r) sums[r] = static_cast<std::uint8_t>(sums[r] + rows[r]);
    }
  } else {
    for (std::int64_t t = 0; t < num_rows; ++t, rows += stride) {
      for (std::size_t r = 0; r < count; ++r) sums[r] = static_cast<std::uint8_t>(sums[r] + rows[r]);
    }
  }
  for (std::size_t r = 0; r < count; ++r) per_rank[r] += sums[r];
}

void count_ranks(std::int64_t begin, std::int64_t end, const LayoutSpans& out) {
  const std::size_t num_ranks = out.num_tokens_per_rank.size();
  const std::uint8_t* const rows = out.is_token_in_rank.data() + static_cast<std::size_t>(begin) * num_ranks;
  for (std::size_t first = 0; first < num_ranks; first += kBlockRanks) {
    add_rows(rows + first, end - begin, num_ranks, std::min(kBlockRanks, num_ranks - first),
             out.num_tokens_per_rank.data() + first);
  }
}

void count_nodes(std::int64_t begin, std::int64_t end, const Topology& topology, const LayoutSpans& out) {
  const auto num_ranks = static_cast<std::size_t>(topology.num_ranks);
  const auto node_size = static_cast<std::size_t>(topology.ranks_per_node);
  for (auto t = static_cast<std::size_t>(begin); t < static_cast<std::size_t>(end); ++t) {
    const std::uint8_t* const row = out.is_token_in_rank.data() + t * num_ranks;
    for (std::size_t node = 0; node < out.num_tokens_per_node.size(); ++node) {
      const std::uint8_t* const last = row + std::min((node + 1) * node_size, num_ranks);
      out.num_tokens_per_node[node] += std::find(row + node * node_size, last, 1) != last ? 1 : 0;
    }
  }
}

template <typename OwnerOf>
void compute(const TopkIds& topk, int num_experts, const OwnerOf& owner_of, const Topology& topology,
             const LayoutSpans& out) {
  for (std::int64_t begin = 0; begin < topk.num_tokens; begin += kBlockTokens) {
    const std::int64_t end = std::min(begin + kBlockTokens, topk.num_tokens);
    std::visit([&](const auto* ids) { mark(ids, begin, end, topk.num_topk, num_experts, owner_of, out); }, topk.ids);
    count_ranks(begin, end, out);
    if (!out.num_tokens_per_node.empty()) count_nodes(begin, end, topology, out);
  }
}

/// REQUIRES: experts.num_experts() <= kTableExperts.
void compute_with_table(const TopkIds& topk, const ExpertMap& experts, const Topology& topology,
                        const LayoutSpans& out) {
  std::array<std::int32_t, kTableExperts> owners;
  for (int rank = 0; rank < topology.num_ranks; ++rank) {
    std::fill_n(owners.begin() + experts.begin(rank), experts.count(rank), rank);
  }
  const auto owner_of = [&owners](int expert) { return owners[static_cast<std::size_t>(expert)]; };
  compute(topk, experts.num_experts(), owner_of, topology, out);
}

}  // namespace

void compute_layout(const TopkIds& topk, const ExpertMap& experts, const Topology& topology, const LayoutSpans& out) {
  std::ranges::fill(out.num_tokens_per_rank, 0);
  std::ranges::fill(out.num_tokens_per_node, 0);
  std::ranges::fill(out.num_tokens_per_expert, 0);
  std::ranges::fill(out.is_token_in_rank, std::uint8_t{0});
  if (experts.num_experts() <= kTableExperts) {
    compute_with_table(topk, experts, topology, out);
  } else {
    const auto owner_of = [&experts](int expert) { return experts.owner(expert); };
    compute(topk, experts.num_experts(), owner_of, topology, out);
  }
}

}  // namespace crossdock::plan
