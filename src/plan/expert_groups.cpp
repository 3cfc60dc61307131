#include "plan/expert_groups.hpp"

#include <algorithm>
#include <utility>

namespace crossdock::plan {

ExpertGroups::ExpertGroups(std::vector<std::int32_t> selections, int num_ranks, const ExpertMap& experts, int alignment)
    : selections_(std::move(selections)), num_ranks_(num_ranks), experts_(experts), alignment_(alignment) {
  begin_.resize(static_cast<std::size_t>(experts.num_experts()));
  for (int rank = 0; rank < num_ranks; ++rank) {
    const int first = experts.begin(rank);
    for (int e = first + 1; e < first + experts.count(rank); ++e) {
      begin_[static_cast<std::size_t>(e)] = padded_end(e - 1);
    }
  }
}

std::int64_t ExpertGroups::row_begin(int src, int expert) const noexcept {
  std::int64_t row = begin_[static_cast<std::size_t>(expert)];
  for (int s = 0; s < src; ++s) row += count(s, expert);
  return row;
}

std::int64_t ExpertGroups::num_rows(int rank) const noexcept {
  const int count = experts_.count(rank);
  return count == 0 ? 0 : padded_end(experts_.begin(rank) + count - 1);
}

std::int64_t ExpertGroups::num_sent(int src, int dst) const noexcept {
  std::int64_t sum = 0;
  for (int i = 0; i < experts_.count(dst); ++i) sum += count(src, experts_.begin(dst) + i);
  return sum;
}

namespace {

struct Selection {
  std::int32_t rank;
  std::int32_t column;
  std::int32_t row;
};

template <typename Id>
RouteTable make_route(const Id* ids, const TopkIds& topk, const ExpertGroups& groups, int rank) {
  std::vector<std::int32_t> next_row;
  next_row.reserve(static_cast<std::size_t>(groups.experts().num_experts()));
  for (int e = 0; e < groups.experts().num_experts(); ++e) {
    next_row.push_back(static_cast<std::int32_t>(groups.row_begin(rank, e)));
  }
  RouteTable table;
  for (auto* entries : {&table.rank, &table.row, &table.column}) {
    entries->reserve(static_cast<std::size_t>(topk.num_tokens) * static_cast<std::size_t>(topk.num_topk));
  }
  table.begin.push_back(0);
  std::vector<Selection> selections;
  for (std::int64_t t = 0; t < topk.num_tokens; ++t, ids += topk.num_topk) {
    selections.clear();
    for (std::int32_t k = 0; k < topk.num_topk; ++k) {
      if (ids[k] < 0) continue;
      const auto expert = static_cast<int>(ids[k]);
      selections.push_back({groups.experts().owner(expert), k, next_row[static_cast<std::size_t>(expert)]++});
    }
    // Columns differ, so this is stable; a stable sort would allocate for each token.
    std::ranges::sort(selections, [](const Selection& a, const Selection& b) {
      return std::pair(a.rank, a.column) < std::pair(b.rank, b.column);
    });
    for (const Selection& selection : selections) {
      table.rank.push_back(selection.rank);
      table.row.push_back(selection.row);
      table.column.push_back(selection.column);
    }
    table.begin.push_back(static_cast<std::int32_t>(table.rank.size()));
  }
  return table;
}

}  // namespace

RouteTable make_expanded_route(const TopkIds& topk, const ExpertGroups& groups, int rank) {
  return std::visit([&](const auto* ids) { return make_route(ids, topk, groups, rank); }, topk.ids);
}

}  // namespace crossdock::plan
