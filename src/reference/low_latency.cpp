#include "reference/low_latency.hpp"

#include <algorithm>
#include <cmath>
#include <span>

#include "base/error.hpp"
#include "codec/float8.hpp"
#include "codec/logfmt.hpp"
#include "plan/experts.hpp"

namespace crossdock::reference::low_latency {

namespace {

using plan::ExpertMap;

std::size_t index(std::int64_t row, std::int64_t columns, std::int64_t column) {
  return static_cast<std::size_t>(row * columns + column);
}

bool is_masked(const std::vector<std::uint8_t>& mask, int rank) {
  return !mask.empty() && mask[static_cast<std::size_t>(rank)] != 0;
}

std::int64_t places_of_expert(const DispatchWorld& world) {
  return static_cast<std::int64_t>(world.ranks.size()) * world.max_tokens;
}

bool is_float8(RowFormat format) { return format != RowFormat::kBfloat16; }

void check(const DispatchWorld& world, std::size_t rank) {
  const DispatchRank& source = world.ranks[rank];
  require(source.num_tokens <= world.max_tokens, "rank {} dispatches {} tokens; at most {} are allowed", rank,
          source.num_tokens, world.max_tokens);
  std::vector<std::int64_t> rows(static_cast<std::size_t>(world.num_experts), 0);
  for (const std::int64_t id : source.topk_idx) {
    require(id >= -1 && id < world.num_experts, "rank {} gives expert id {}, which is outside [-1, {})", rank, id,
            world.num_experts);
    if (id == -1) continue;
    const std::int64_t count = ++rows[static_cast<std::size_t>(id)];
    require(count <= world.max_tokens, "rank {} has more than {} rows for expert {}, which some token names twice",
            rank, world.max_tokens, id);
  }
}

/// Everything in its size, zero, and the statistics so far.
DispatchedRank empty_result(const DispatchWorld& world, std::int64_t num_local_experts,
                            const std::vector<std::int32_t>& statistics) {
  const auto size = [&](std::int64_t columns) {
    return static_cast<std::size_t>(num_local_experts * places_of_expert(world) * columns);
  };
  const std::int64_t groups = codec::num_groups(world.hidden);
  DispatchedRank result;
  if (is_float8(world.format)) {
    result.x_float8.resize(size(world.hidden));
  } else {
    result.x.resize(size(world.hidden));
  }
  if (world.format == RowFormat::kFloat8Ue8m0) {
    result.packed_scales.resize(size(codec::num_packed_scales(groups)));
  } else if (is_float8(world.format)) {
    result.scales.resize(size(groups));
  }
  result.count.resize(static_cast<std::size_t>(num_local_experts));
  result.src_info.resize(size(1));
  result.layout_range.resize(index(num_local_experts, static_cast<std::int64_t>(world.ranks.size()), 0));
  result.statistics = statistics;
  return result;
}

/// Where a row goes: a place of an expert with `places` of them.
struct Place {
  std::int64_t expert;
  std::int64_t row;
  std::int64_t places;
};

/// Scales of a row, column-major: neighbours in memory are neighbouring rows' scales of the same group.
template <typename T>
void put_scales(std::vector<T>& out, const std::vector<T>& scales, const Place& place) {
  const auto columns = static_cast<std::int64_t>(scales.size());
  for (std::int64_t g = 0; g < columns; ++g) {
    out[index(place.expert * columns + g, place.places, place.row)] = scales[static_cast<std::size_t>(g)];
  }
}

void put_row(DispatchedRank& out, std::span<const Bfloat16> row, RowFormat format, const Place& place) {
  const auto hidden = static_cast<std::int64_t>(row.size());
  const auto begin = static_cast<std::ptrdiff_t>(index(place.expert * place.places + place.row, hidden, 0));
  if (!is_float8(format)) {
    std::ranges::copy(row, out.x.begin() + begin);
    return;
  }
  std::vector<std::uint8_t> values(row.size());
  std::vector<float> scales(static_cast<std::size_t>(codec::num_groups(hidden)));
  const auto rounding = format == RowFormat::kFloat8 ? codec::ScaleRounding::kNone : codec::ScaleRounding::kPowerOfTwo;
  codec::quantize_row(row, rounding, values, scales);
  std::ranges::copy(values, out.x_float8.begin() + begin);
  if (format == RowFormat::kFloat8Ue8m0) {
    std::vector<std::int32_t> packed(static_cast<std::size_t>(codec::num_packed_scales(codec::num_groups(hidden))));
    codec::pack_ue8m0(scales, packed);
    put_scales(out.packed_scales, packed, place);
  } else {
    put_scales(out.scales, scales, place);
  }
}

/// Appends the rows of one source to one expert's.
void append_rows(DispatchedRank& out, const DispatchWorld& world, const DispatchRank& source, std::int64_t id,
                 std::int64_t local) {
  std::int32_t& count = out.count[static_cast<std::size_t>(local)];
  for (std::int64_t t = 0; t < source.num_tokens; ++t) {
    for (int k = 0; k < world.num_topk; ++k) {
      if (source.topk_idx[index(t, world.num_topk, k)] != id) continue;
      const Place place{.expert = local, .row = count, .places = places_of_expert(world)};
      const auto row = std::span(source.x).subspan(index(t, world.hidden, 0), static_cast<std::size_t>(world.hidden));
      put_row(out, row, world.format, place);
      out.src_info[index(local, place.places, place.row)] = static_cast<std::int32_t>(t);
      ++count;
    }
  }
}

}  // namespace

std::vector<DispatchedRank> dispatch(const DispatchWorld& world) {
  const auto num_ranks = static_cast<int>(world.ranks.size());
  const ExpertMap experts(world.num_experts, num_ranks);
  for (int rank = 0; rank < num_ranks; ++rank) {
    if (!is_masked(world.is_masked, rank)) check(world, static_cast<std::size_t>(rank));
  }

  std::vector<DispatchedRank> result;
  for (int dst = 0; dst < num_ranks; ++dst) {
    DispatchedRank& out = result.emplace_back(
        empty_result(world, experts.count(dst), world.ranks[static_cast<std::size_t>(dst)].statistics));
    if (is_masked(world.is_masked, dst)) continue;
    for (std::int64_t local = 0; local < experts.count(dst); ++local) {
      std::int32_t& count = out.count[static_cast<std::size_t>(local)];
      for (int src = 0; src < num_ranks; ++src) {
        const std::int64_t begin = count;
        const DispatchRank& source = world.ranks[static_cast<std::size_t>(src)];
        if (!is_masked(world.is_masked, src)) append_rows(out, world, source, experts.begin(dst) + local, local);
        out.layout_range[index(local, num_ranks, src)] = begin << 32 | (count - begin);
      }
      if (!out.statistics.empty()) out.statistics[static_cast<std::size_t>(local)] += count;
    }
  }
  return result;
}

namespace {

/// A row as its token's rank sees it.
std::vector<float> received(std::span<const Bfloat16> row, WireFormat format) {
  std::vector<float> result(row.size());
  if (format == WireFormat::kBfloat16) {
    std::ranges::transform(row, result.begin(), to_float);
  } else {
    std::vector<std::byte> wire(static_cast<std::size_t>(codec::logfmt_wire_bytes(row)));
    codec::encode_logfmt(row, wire);
    codec::decode_logfmt(wire, result);
  }
  return result;
}

/// The rows that experts hold for one source rank, handed out in the order in which dispatch placed them.
class ReturningRows {
 public:
  ReturningRows(const CombineWorld& world, const std::vector<DispatchedRank>& dispatched, std::size_t source)
      : world_(world),
        dispatched_(dispatched),
        source_(static_cast<std::int64_t>(source)),
        num_ranks_(static_cast<std::int64_t>(world.ranks.size())),
        experts_(world.num_experts, static_cast<int>(num_ranks_)),
        num_taken_(static_cast<std::size_t>(world.num_experts), 0) {}

  /// The next row of the expert; empty if it does not exist.
  [[nodiscard]] std::span<const Bfloat16> next(std::int64_t id) {
    const int owner = experts_.owner(static_cast<int>(id));
    const auto owner_index = static_cast<std::size_t>(owner);
    const std::int64_t local = id - experts_.begin(owner);
    const std::int64_t range = dispatched_[owner_index].layout_range[index(local, num_ranks_, source_)];
    const std::int64_t count = range & 0xFFFFFFFF;
    const std::int64_t begin = range >> 32;
    const std::int64_t position = num_taken_[static_cast<std::size_t>(id)]++;
    if (is_masked(world_.is_masked, owner) || position >= count) return {};
    const std::int64_t row = local * num_ranks_ * world_.max_tokens + begin + position;
    return std::span(world_.ranks[owner_index].x)
        .subspan(index(row, world_.hidden, 0), static_cast<std::size_t>(world_.hidden));
  }

 private:
  const CombineWorld& world_;
  const std::vector<DispatchedRank>& dispatched_;
  std::int64_t source_;
  std::int64_t num_ranks_;
  ExpertMap experts_;
  std::vector<std::int64_t> num_taken_;  ///< rows handed out, of each expert
};

void combine_token(std::vector<float>& sums, const CombineWorld& world, const CombineRank& rank, std::int64_t t,
                   ReturningRows& rows) {
  for (int k = 0; k < world.num_topk; ++k) {
    const std::int64_t id = rank.topk_idx[index(t, world.num_topk, k)];
    if (id == -1) continue;
    const std::span<const Bfloat16> row = rows.next(id);
    if (row.empty()) continue;
    const std::vector<float> y = received(row, world.format);
    const float weight = rank.topk_weights[index(t, world.num_topk, k)];
    for (std::size_t h = 0; h < y.size(); ++h) sums[h] = std::fma(y[h], weight, sums[h]);
  }
}

}  // namespace

std::vector<std::vector<Bfloat16>> combine(const CombineWorld& world, const std::vector<DispatchedRank>& dispatched) {
  std::vector<std::vector<Bfloat16>> result;
  for (std::size_t r = 0; r < world.ranks.size(); ++r) {
    const CombineRank& rank = world.ranks[r];
    std::vector<Bfloat16>& out = result.emplace_back(index(rank.num_tokens, world.hidden, 0));
    if (is_masked(world.is_masked, static_cast<int>(r))) continue;
    ReturningRows rows(world, dispatched, r);
    for (std::int64_t t = 0; t < rank.num_tokens; ++t) {
      std::vector<float> sums(static_cast<std::size_t>(world.hidden), 0.0F);
      combine_token(sums, world, rank, t, rows);
      std::ranges::transform(sums, out.begin() + static_cast<std::ptrdiff_t>(index(t, world.hidden, 0)), to_bfloat16);
    }
  }
  return result;
}

}  // namespace crossdock::reference::low_latency
