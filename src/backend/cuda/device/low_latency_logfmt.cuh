// The rows of a low-latency combine as LogFMT-10: they are encoded as they are staged, and decoded as they are summed.
#pragma once

#include "backend/cuda/device/channels.cuh"
#include "backend/cuda/device/logfmt.cuh"
#include "backend/cuda/device/logfmt_layout.hpp"
#include "backend/cuda/device/low_latency_rows.cuh"

namespace crossdock::cuda::device {

inline constexpr int kLogFmtLoads = 4;  ///< rows that a thread reads at once
inline constexpr int kLogFmtUnits = 2;  ///< that a warp encodes at once, as many as a chunk has

/// A lane's neighbours of a row, as pairs.
struct LogFmtLane {
  uint4 first;
  uint4 second;

  [[nodiscard]] __device__ std::uint32_t pair(int i) const {
    const std::uint32_t pairs[] = {first.x, first.y, first.z, first.w, second.x, second.y, second.z, second.w};
    return pairs[i];
  }
};

/// Beyond the end of the row are zeros.
template <typename T>
__device__ LogFmtLane thread_load_lane(const std::byte* row, int begin, int hidden) {
  return {thread_load_channels<T>(row, begin, hidden), thread_load_channels<T>(row, begin + kLaneChannels, hidden)};
}

/// Magnitudes, as bfloat16 bits without the sign.
struct LogFmtExtremes {
  std::uint32_t amax;
  std::uint32_t amin;
};

/// Of each group, in all of its lanes. From the lane's beginning `count` elements are left of the row.
__device__ inline LogFmtExtremes warp_extremes(const LogFmtLane& lane, int count) {
  LogFmtExtremes extremes{0, 0x7FFFU};
#pragma unroll
  for (int i = 0; i < LogFmtLayout::kLane; ++i) {
    if (i >= count) continue;
    const std::uint32_t magnitude = lane.pair(i / 2) >> 16 * (i % 2) & 0x7FFFU;
    extremes.amax = max(extremes.amax, magnitude);
    extremes.amin = min(extremes.amin, magnitude);
  }
#pragma unroll
  for (int distance = LogFmtLayout::kGroupLanes / 2; distance > 0; distance /= 2) {
    extremes.amax = max(extremes.amax, __shfl_xor_sync(0xFFFFFFFFU, extremes.amax, distance));
    extremes.amin = min(extremes.amin, __shfl_xor_sync(0xFFFFFFFFU, extremes.amin, distance));
  }
  return extremes;
}

/// Stores a lane's part of a unit.
__device__ inline void thread_stage_lane(const LogFmtLayout& layout, int unit, const LogFmtLane& lane,
                                         const LogFmtExtremes& extremes, bool is_cast, std::byte* row) {
  const int place = static_cast<int>(threadIdx.x % kWarpThreads);
  LogFmtRange range{0.0F, 0.0F};
  if (is_cast) {
    const LogFmtScale scale = thread_logfmt_scale(extremes.amax, extremes.amin);
    std::uint32_t pairs[LogFmtLayout::kLane / 2];
#pragma unroll
    for (int i = 0; i < LogFmtLayout::kLane / 2; ++i) pairs[i] = lane.pair(i);
    const LogFmtPack pack = thread_pack(pairs, scale);
    *reinterpret_cast<uint4*>(row + layout.first_part(unit, place)) = {pack.low[0], pack.low[1], pack.low[2],
                                                                       pack.low[3]};
    *reinterpret_cast<std::uint32_t*>(row + layout.cast_part(unit, place)) = pack.high;
    range = scale.range;
  } else {
    *reinterpret_cast<uint4*>(row + layout.first_part(unit, place)) = lane.first;
    *reinterpret_cast<uint4*>(row + layout.raw_part(unit, place)) = lane.second;
  }
  if (place % LogFmtLayout::kGroupLanes == 0) {
    const int group = (unit * LogFmtLayout::kUnit + place * LogFmtLayout::kLane) / LogFmtLayout::kGroup;
    *reinterpret_cast<LogFmtRange*>(row + LogFmtLayout::range(group)) = range;
  }
}

/// Units `first_unit` and the next one, if it is there. T as for thread_load_channels.
template <typename T>
__device__ void warp_stage_units(const LogFmtLayout& layout, int hidden, int first_unit, const std::byte* from,
                                 std::byte* to) {
  const int first =
      first_unit * LogFmtLayout::kUnit + static_cast<int>(threadIdx.x % kWarpThreads) * LogFmtLayout::kLane;
  LogFmtLane lanes[kLogFmtUnits];
#pragma unroll
  for (int u = 0; u < kLogFmtUnits; ++u) {
    lanes[u] = thread_load_lane<T>(from, first + u * LogFmtLayout::kUnit, hidden);
  }
  LogFmtExtremes extremes[kLogFmtUnits];
  bool are_cast[kLogFmtUnits];
#pragma unroll
  for (int u = 0; u < kLogFmtUnits; ++u) {
    const int count = hidden - first - u * LogFmtLayout::kUnit;
    extremes[u] = warp_extremes(lanes[u], count);
    const bool is_castable = count <= 0 || thread_castable(extremes[u].amax, extremes[u].amin);
    are_cast[u] =
        __all_sync(0xFFFFFFFFU, is_castable) && LogFmtLayout::is_worth_it(layout.unit_elements(first_unit + u));
  }
  const bool both = are_cast[0] && are_cast[1];
#pragma unroll
  for (int u = 0; u < kLogFmtUnits; ++u) {
    if (first + u * LogFmtLayout::kUnit >= hidden) continue;
    const bool is_cast = layout.has_pairs() ? both : are_cast[u];
    thread_stage_lane(layout, first_unit + u, lanes[u], extremes[u], is_cast, to);
  }
}

/// What a lane reads of a row before it knows whether it is cast.
struct LogFmtRead {
  LogFmtRange range;
  uint4 first;
  std::uint32_t high;
};

using LogFmtSums = Sums<Bfloat16, uint4>[2];

__device__ inline void thread_add_cast(const LogFmtRead& read, float weight, LogFmtSums& sums) {
  const LogFmtPack pack{{read.first.x, read.first.y, read.first.z, read.first.w}, read.high};
#pragma unroll
  for (int e = 0; e < LogFmtLayout::kLane; ++e) {
    sums[e / kLaneChannels].add_weighted(e % kLaneChannels, thread_unpack(pack, e, read.range), weight);
  }
}

/// The row of the first of these selections, which is taken out of them; the same in all lanes.
__device__ inline const std::byte* warp_take_row(const LaneRow& mine, unsigned& left, int& lane) {
  lane = __ffs(static_cast<int>(left)) - 1;
  left &= left - 1;
  return reinterpret_cast<const std::byte*>(
      __shfl_sync(0xFFFFFFFFU, reinterpret_cast<unsigned long long>(mine.row), lane));
}

/// A lane's part of a unit: adds what the selections that the lanes hold have there, in their order.
__device__ inline void warp_add_unit(const LaneRow& mine, const LogFmtLayout& layout, int unit, bool is_inside,
                                     LogFmtSums& sums) {
  const int place = static_cast<int>(threadIdx.x % kWarpThreads);
  const int group = (unit * LogFmtLayout::kUnit + place * LogFmtLayout::kLane) / LogFmtLayout::kGroup;
  unsigned unread = __ballot_sync(0xFFFFFFFFU, mine.row != nullptr);
  for (unsigned left = unread; left != 0;) {
    LogFmtRead reads[kLogFmtLoads];
    int lane = 0;
#pragma unroll
    for (int i = 0; i < kLogFmtLoads; ++i) {
      if (unread == 0) continue;
      const std::byte* const row = warp_take_row(mine, unread, lane);
      if (!is_inside) continue;
      const auto range = thread_load(reinterpret_cast<const float2*>(row + LogFmtLayout::range(group)));
      reads[i].range = {range.x, range.y};
      reads[i].first = thread_load(reinterpret_cast<const uint4*>(row + layout.first_part(unit, place)));
      reads[i].high = thread_load(reinterpret_cast<const unsigned*>(row + layout.cast_part(unit, place)));
    }
#pragma unroll
    for (int i = 0; i < kLogFmtLoads; ++i) {
      if (left == 0) continue;
      const std::byte* const row = warp_take_row(mine, left, lane);
      const float weight = __shfl_sync(0xFFFFFFFFU, mine.weight, lane);
      if (is_inside && reads[i].range.step != 0.0F) {
        thread_add_cast(reads[i], weight, sums);
      } else if (is_inside) {
        sums[0].add_weighted(reads[i].first, weight);
        sums[1].add_weighted(thread_load(reinterpret_cast<const uint4*>(row + layout.raw_part(unit, place))), weight);
      }
    }
  }
}

/// T is uint4 if rows of x and of the result have whole, aligned accesses of that size, else unsigned short.
template <typename T>
struct LogFmtRows {
  /// As PlainRows: what is staged are rows of LogFmtLayout.
  static __device__ void stage(const LowLatencyCombineArgs& args, int* ends) {
    const UsedRows used(args, ends);
    const LogFmtLayout layout(args.hidden);
    const int pieces = (layout.num_units() + kLogFmtUnits - 1) / kLogFmtUnits;
    for (WarpItem item(used.count(), pieces); item.is_valid(); item.step()) {
      const auto packed = static_cast<int>(item.token());
      warp_stage_units<T>(layout, static_cast<int>(args.hidden), item.piece() * kLogFmtUnits, used.row(packed),
                          args.parcel + ParcelHeader::kBytes + packed * args.row_bytes);
    }
  }

  /// A warp's piece of work is a unit of a token's row.
  static __device__ void reduce(const LowLatencyCombineArgs& args, const BlockState& block,
                                const Contributions& contributions, int /*rounds*/) {
    const LogFmtLayout layout(args.hidden);
    const auto hidden = static_cast<int>(args.hidden);
    const int lane = static_cast<int>(threadIdx.x % kWarpThreads);
    WarpItem item(args.num_tokens, layout.num_units());
    LaneRow mine{nullptr, 0.0F};
    if (item.is_valid()) mine = thread_find_row(args, block, contributions, item.token(), lane);
    for (; item.is_valid(); item.step()) {
      const LaneRow now = mine;
      if (const WarpItem next = item.next(); next.is_valid()) {
        mine = thread_find_row(args, block, contributions, next.token(), lane);
      }
      const int begin = item.piece() * LogFmtLayout::kUnit + lane * LogFmtLayout::kLane;
      LogFmtSums sums;
      warp_add_unit(now, layout, item.piece(), begin < hidden, sums);
      for (int column = kWarpThreads; column < args.num_topk; column += kWarpThreads) {
        warp_add_unit(thread_find_row(args, block, contributions, item.token(), column + lane), layout, item.piece(),
                      begin < hidden, sums);
      }
      std::byte* const out = args.out + item.token() * 2 * args.hidden;
      thread_store_channels<T>(out, begin, hidden, sums[0].rounded());
      thread_store_channels<T>(out, begin + kLaneChannels, hidden, sums[1].rounded());
    }
  }
};

}  // namespace crossdock::cuda::device
