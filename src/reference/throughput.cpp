#include "reference/throughput.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>

#include "base/bfloat16.hpp"
#include "base/error.hpp"
#include "plan/experts.hpp"

namespace crossdock::reference {

namespace {

using plan::ExpertMap;

std::size_t index(std::int64_t row, std::int64_t columns, std::int64_t column) {
  return static_cast<std::size_t>(row * columns + column);
}

int size_of_world(const DispatchWorld& world) { return static_cast<int>(world.ranks.size()); }

/// [num_tokens, R]: 1 where the rank owns at least one of the token's experts.
std::vector<std::uint8_t> membership(const DispatchWorld& world, const DispatchRank& source) {
  if (world.num_topk == 0) return source.is_token_in_rank;
  const int num_ranks = size_of_world(world);
  const ExpertMap experts(world.num_experts, num_ranks);
  std::vector<std::uint8_t> result(index(source.num_tokens, num_ranks, 0), 0);
  for (std::int64_t t = 0; t < source.num_tokens; ++t) {
    for (int k = 0; k < world.num_topk; ++k) {
      const std::int64_t id = source.topk_idx[index(t, world.num_topk, k)];
      require(id >= -1 && id < world.num_experts, "expert id {} is outside [-1, {})", id, world.num_experts);
      if (id != -1) result[index(t, num_ranks, experts.owner(static_cast<int>(id)))] = 1;
    }
  }
  return result;
}

void append_row(std::vector<std::byte>& out, const std::vector<std::byte>& rows, std::int64_t row,
                std::size_t row_bytes) {
  const auto begin = rows.begin() + static_cast<std::ptrdiff_t>(static_cast<std::size_t>(row) * row_bytes);
  out.insert(out.end(), begin, begin + static_cast<std::ptrdiff_t>(row_bytes));
}

/// The selections of token t as the rank that owns experts [first, first + count) sees them.
void append_topk(DispatchedRank& out, const DispatchRank& source, std::int64_t t, int num_topk, int first, int count) {
  for (int k = 0; k < num_topk; ++k) {
    const std::int64_t id = source.topk_idx[index(t, num_topk, k)];
    const bool is_local = id >= first && id < first + count;
    out.recv_topk_idx.push_back(is_local ? id - first : -1);
    out.recv_topk_weights.push_back(is_local ? source.topk_weights[index(t, num_topk, k)] : 0.0F);
    if (is_local) ++out.num_tokens_per_expert[static_cast<std::size_t>(id - first)];
  }
}

void append_source(DispatchedRank& out, int rank, std::int64_t token) {
  out.recv_src_rank.push_back(rank);
  out.recv_src_idx.push_back(static_cast<std::int32_t>(token));
}

/// Rows of zeros until their number is a multiple of the alignment.
void pad_group(DispatchedRank& out, const DispatchWorld& world) {
  while (out.recv_src_rank.size() % static_cast<std::size_t>(world.expert_alignment) != 0) {
    append_source(out, -1, -1);
    out.recv_column.push_back(-1);
    out.recv_topk_weights.push_back(0.0F);
    out.recv_x.resize(out.recv_x.size() + world.row_bytes);
    out.recv_scales.resize(out.recv_scales.size() + world.scale_row_bytes);
  }
}

/// What all ranks select of one expert.
void append_group(DispatchedRank& out, const DispatchWorld& world, int expert) {
  const std::int64_t before = out.num_recv_tokens;
  for (int src = 0; src < size_of_world(world); ++src) {
    const DispatchRank& source = world.ranks[static_cast<std::size_t>(src)];
    for (std::int64_t t = 0; t < source.num_tokens; ++t) {
      for (int k = 0; k < world.num_topk; ++k) {
        if (source.topk_idx[index(t, world.num_topk, k)] != expert) continue;
        ++out.num_recv_tokens;
        append_row(out.recv_x, source.x, t, world.row_bytes);
        append_row(out.recv_scales, source.scales, t, world.scale_row_bytes);
        out.recv_topk_weights.push_back(source.topk_weights[index(t, world.num_topk, k)]);
        append_source(out, src, t);
        out.recv_column.push_back(k);
      }
    }
  }
  out.num_tokens_per_expert.push_back(static_cast<std::int32_t>(out.num_recv_tokens - before));
  out.group_ends.push_back(static_cast<std::int32_t>(out.recv_src_rank.size()));
  pad_group(out, world);
}

std::vector<DispatchedRank> dispatch_expanded(const DispatchWorld& world) {
  require(world.num_topk > 0, "an expanded dispatch needs top-k");
  const int num_ranks = size_of_world(world);
  const ExpertMap experts(world.num_experts, num_ranks);
  std::vector<DispatchedRank> result;
  for (int rank = 0; rank < num_ranks; ++rank) {
    DispatchedRank& out = result.emplace_back();
    out.is_token_in_rank = membership(world, world.ranks[static_cast<std::size_t>(rank)]);
    for (int i = 0; i < experts.count(rank); ++i) append_group(out, world, experts.begin(rank) + i);
  }
  return result;
}

}  // namespace

std::vector<DispatchedRank> dispatch(const DispatchWorld& world) {
  if (world.expand) return dispatch_expanded(world);
  const int num_ranks = size_of_world(world);
  const ExpertMap experts(world.num_experts, num_ranks);
  std::vector<DispatchedRank> result(world.ranks.size());
  for (std::size_t rank = 0; rank < world.ranks.size(); ++rank) {
    result[rank].is_token_in_rank = membership(world, world.ranks[rank]);
  }

  for (int dst = 0; dst < num_ranks; ++dst) {
    DispatchedRank& out = result[static_cast<std::size_t>(dst)];
    if (world.num_topk > 0) out.num_tokens_per_expert.assign(static_cast<std::size_t>(experts.count(dst)), 0);
    for (int src = 0; src < num_ranks; ++src) {
      const DispatchRank& source = world.ranks[static_cast<std::size_t>(src)];
      const std::vector<std::uint8_t>& is_token_in_rank = result[static_cast<std::size_t>(src)].is_token_in_rank;
      for (std::int64_t t = 0; t < source.num_tokens; ++t) {
        if (is_token_in_rank[index(t, num_ranks, dst)] == 0) continue;
        ++out.num_recv_tokens;
        append_row(out.recv_x, source.x, t, world.row_bytes);
        append_row(out.recv_scales, source.scales, t, world.scale_row_bytes);
        append_topk(out, source, t, world.num_topk, experts.begin(dst), experts.count(dst));
        append_source(out, src, t);
      }
    }
  }
  return result;
}

namespace {

float canonical(float value) { return std::isnan(value) ? std::bit_cast<float>(kFloat32Nan) : value; }

/// Elements of bfloat16 or float32 as floats.
std::vector<float> to_floats(const std::vector<std::byte>& bytes, DataType dtype) {
  std::vector<float> result(bytes.size() / size_of(dtype));
  for (std::size_t i = 0; i < result.size(); ++i) {
    if (dtype == DataType::kBfloat16) {
      Bfloat16 value;
      std::memcpy(&value, &bytes[i * sizeof(value)], sizeof(value));
      result[i] = to_float(value);
    } else {
      std::memcpy(&result[i], &bytes[i * sizeof(float)], sizeof(float));
    }
  }
  return result;
}

std::vector<std::byte> from_floats(const std::vector<float>& values, DataType dtype) {
  std::vector<std::byte> result(values.size() * size_of(dtype));
  for (std::size_t i = 0; i < values.size(); ++i) {
    if (dtype == DataType::kBfloat16) {
      const Bfloat16 rounded = to_bfloat16(values[i]);
      std::memcpy(&result[i * sizeof(rounded)], &rounded, sizeof(rounded));
    } else {
      const float value = canonical(values[i]);
      std::memcpy(&result[i * sizeof(value)], &value, sizeof(value));
    }
  }
  return result;
}

void add(std::vector<float>& sums, const std::vector<float>& values) {
  for (std::size_t i = 0; i < values.size(); ++i) sums[i] += values[i];
}

void add_row(std::vector<float>& sums, std::int64_t token, const std::vector<float>& values, std::int64_t row,
             std::int64_t columns) {
  for (std::int64_t c = 0; c < columns; ++c) sums[index(token, columns, c)] += values[index(row, columns, c)];
}

/// Sums [num_tokens, ...] of each rank.
struct Sums {
  std::vector<std::vector<float>> x;
  std::vector<std::vector<float>> weights;
};

/// What one rank holds, if it came from an expanded dispatch.
void add_selections(Sums& sums, const CombineWorld& world, const CombineRank& from, const DispatchedRank& rows) {
  const std::vector<float> x = to_floats(from.x, world.dtype);
  const std::int32_t most = rows.recv_column.empty() ? -1 : std::ranges::max(rows.recv_column);
  for (std::int32_t column = 0; column <= most; ++column) {
    for (std::size_t row = 0; row < rows.recv_column.size(); ++row) {
      if (rows.recv_column[row] != column) continue;
      const auto owner = static_cast<std::size_t>(rows.recv_src_rank[row]);
      add_row(sums.x[owner], rows.recv_src_idx[row], x, static_cast<std::int64_t>(row), world.hidden);
      if (world.num_topk == 0) continue;
      sums.weights[owner][index(rows.recv_src_idx[row], world.num_topk, column)] += from.topk_weights[row];
    }
  }
}

void add_tokens(Sums& sums, const CombineWorld& world, const CombineRank& from, const DispatchedRank& rows) {
  const std::vector<float> x = to_floats(from.x, world.dtype);
  for (std::int64_t row = 0; row < rows.num_recv_tokens; ++row) {
    const auto owner = static_cast<std::size_t>(rows.recv_src_rank[static_cast<std::size_t>(row)]);
    const std::int64_t token = rows.recv_src_idx[static_cast<std::size_t>(row)];
    add_row(sums.x[owner], token, x, row, world.hidden);
    add_row(sums.weights[owner], token, from.topk_weights, row, world.num_topk);
  }
}

}  // namespace

std::vector<CombinedRank> combine(const CombineWorld& world, const std::vector<DispatchedRank>& dispatched) {
  require(world.dtype == DataType::kBfloat16 || world.dtype == DataType::kFloat32,
          "combine of {}; allowed are bfloat16 and float32", name_of(world.dtype));
  Sums sums;
  for (const CombineRank& rank : world.ranks) {
    std::vector<float>& x = sums.x.emplace_back(index(rank.num_tokens, world.hidden, 0), 0.0F);
    add(x, to_floats(rank.bias_0, world.dtype));
    add(x, to_floats(rank.bias_1, world.dtype));
    sums.weights.emplace_back(index(rank.num_tokens, world.num_topk, 0), 0.0F);
  }

  // Ranks that hold contributions, ascending: this is the order of the sums.
  for (std::size_t holder = 0; holder < world.ranks.size(); ++holder) {
    const bool is_expanded = !dispatched[holder].recv_column.empty();
    (is_expanded ? add_selections : add_tokens)(sums, world, world.ranks[holder], dispatched[holder]);
  }

  std::vector<CombinedRank> result(world.ranks.size());
  for (std::size_t rank = 0; rank < result.size(); ++rank) {
    result[rank].combined_x = from_floats(sums.x[rank], world.dtype);
    for (const float sum : sums.weights[rank]) result[rank].combined_topk_weights.push_back(canonical(sum));
  }
  return result;
}

}  // namespace crossdock::reference
