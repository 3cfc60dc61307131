#include "backend/host/kernels.hpp"

#include <algorithm>
#include <bit>
#include <cstring>

#include "base/bfloat16.hpp"

#include "backend/host/simd_targets.hpp"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "backend/host/kernels.cpp"
#include <hwy/cache_control.h>
#include <hwy/foreach_target.h>  // must come before highway.h
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace crossdock::host::HWY_NAMESPACE {
namespace {

namespace hn = hwy::HWY_NAMESPACE;

using ByteTag = hn::ScalableTag<std::uint8_t>;
using WordTag = hn::ScalableTag<std::uint32_t>;
using FloatTag = hn::ScalableTag<float>;

constexpr std::size_t kUnroll = 4;     // vectors of a row handled together
constexpr std::size_t kMaxFanout = 8;  // destinations stored to in one pass over a row

HWY_INLINE const std::uint8_t* as_u8(const std::byte* p) { return reinterpret_cast<const std::uint8_t*>(p); }
HWY_INLINE std::uint8_t* as_u8(std::byte* p) { return reinterpret_cast<std::uint8_t*>(p); }

/// How far software looks ahead. Both were measured (docs/performance.md): what gains 10 to 40% on one loses as much on
/// the other.
enum class Prefetch {
  kNear,  ///< a few lines ahead in the row at hand, into the first cache: AMD (Zen 4), whose hardware looks further
          ///< itself
  kFar,   ///< 4 KiB ahead, or the next token's rows, into the second cache: Intel (Sapphire Rapids)
};

template <Prefetch kPrefetch>
HWY_INLINE void prefetch_ahead(const void* from, std::size_t near_bytes, std::size_t far_bytes, std::size_t bytes) {
  const auto* at = static_cast<const std::uint8_t*>(from);
  for (std::size_t line = 0; line < bytes; line += 64) {
    if constexpr (kPrefetch == Prefetch::kNear) {
      __builtin_prefetch(at + near_bytes + line, 0, 3);
    } else {
      __builtin_prefetch(at + far_bytes + line, 0, 2);
    }
  }
}

template <Stores kStores, class D, class V>
HWY_INLINE void store(V v, D d, hn::TFromD<D>* to) {
  if constexpr (kStores == Stores::kStreaming) {
    hn::Stream(v, d, to);
  } else {
    hn::StoreU(v, d, to);
  }
}

/// One row to at most kMaxFanout destinations.
template <Stores kStores, Prefetch kPrefetch>
HWY_INLINE void multicast_row(const std::byte* HWY_RESTRICT source, std::size_t bytes, std::byte* const* destinations,
                              std::size_t count) {
  const ByteTag d;
  const std::size_t lanes = hn::Lanes(d);
  std::size_t at = 0;
  for (; at + kUnroll * lanes <= bytes; at += kUnroll * lanes) {
    const std::uint8_t* from = as_u8(source) + at;
    prefetch_ahead<kPrefetch>(from, 512, 4096, kUnroll * lanes);
    const auto v0 = hn::LoadU(d, from);
    const auto v1 = hn::LoadU(d, from + lanes);
    const auto v2 = hn::LoadU(d, from + 2 * lanes);
    const auto v3 = hn::LoadU(d, from + 3 * lanes);
    for (std::size_t i = 0; i < count; ++i) {
      std::uint8_t* to = as_u8(destinations[i]) + at;
      store<kStores>(v0, d, to);
      store<kStores>(v1, d, to + lanes);
      store<kStores>(v2, d, to + 2 * lanes);
      store<kStores>(v3, d, to + 3 * lanes);
    }
  }
  for (; at + lanes <= bytes; at += lanes) {
    const auto v = hn::LoadU(d, as_u8(source) + at);
    for (std::size_t i = 0; i < count; ++i) store<kStores>(v, d, as_u8(destinations[i]) + at);
  }
  if (at < bytes) {
    for (std::size_t i = 0; i < count; ++i) std::memcpy(destinations[i] + at, source + at, bytes - at);
  }
}

template <Stores kStores, Prefetch kPrefetch>
void multicast_all(const MulticastArgs& args) {
  const plan::RouteTable& route = *args.route;
  std::byte* destinations[kMaxFanout];
  for (std::int64_t token = 0; token < route.num_tokens(); ++token) {
    const std::byte* source = args.source + static_cast<std::size_t>(token) * args.source_stride;
    auto entry = static_cast<std::size_t>(route.begin[static_cast<std::size_t>(token)]);
    const auto end = static_cast<std::size_t>(route.begin[static_cast<std::size_t>(token) + 1]);
    while (entry < end) {
      const std::size_t count = std::min(end - entry, kMaxFanout);
      for (std::size_t i = 0; i < count; ++i) {
        destinations[i] =
            args.destinations[route.rank[entry + i]] + static_cast<std::size_t>(route.row[entry + i]) * args.row_bytes;
      }
      multicast_row<kStores, kPrefetch>(source, args.row_bytes, destinations, count);
      entry += count;
    }
  }
}

bool is_vector_aligned(const void* pointer) {
  return reinterpret_cast<std::uintptr_t>(pointer) % hn::Lanes(ByteTag()) == 0;
}

template <Prefetch kPrefetch>
void multicast_with(const MulticastArgs& args) {
  // Slabs are aligned to 128 bytes and blocks start at whole rows, so the row size decides.
  if (args.stores == Stores::kStreaming && args.row_bytes % hn::Lanes(ByteTag()) == 0) {
    multicast_all<Stores::kStreaming, kPrefetch>(args);
    hwy::FlushStream();
  } else {
    multicast_all<Stores::kCached, kPrefetch>(args);
  }
}

void multicast_rows(const MulticastArgs& args, bool look_far) {
  look_far ? multicast_with<Prefetch::kFar>(args) : multicast_with<Prefetch::kNear>(args);
}

/// Float32 sums of kUnroll vectors of 32-bit words, each word holding `kParts` elements.
/// bfloat16: the even elements of a word are its low halves, the odd ones its high halves; both become float32 by
/// moving bits, without crossing lanes.
struct Bfloat16Row {
  static constexpr std::size_t kElementBytes = 2;
  static constexpr std::size_t kParts = 2;

  template <class V>
  static HWY_INLINE hn::Vec<FloatTag> part(V word, std::size_t index) {
    const WordTag d;
    const auto bits = index == 0 ? hn::ShiftLeft<16>(word) : hn::And(word, hn::Set(d, 0xFFFF0000U));
    return hn::BitCast(FloatTag(), bits);
  }

  /// As to_bfloat16 in base/bfloat16.hpp; the result is in the high half.
  static HWY_INLINE hn::Vec<WordTag> round(hn::Vec<FloatTag> sum) {
    const WordTag d;
    const auto bits = hn::BitCast(d, sum);
    const auto lowest_kept = hn::And(hn::ShiftRight<16>(bits), hn::Set(d, 1U));
    const auto rounded = hn::Add(bits, hn::Add(hn::Set(d, 0x7FFFU), lowest_kept));
    const auto is_nan = hn::RebindMask(d, hn::IsNaN(sum));
    return hn::IfThenElse(is_nan, hn::Set(d, std::uint32_t{kBfloat16Nan} << 16U), rounded);
  }

  static HWY_INLINE hn::Vec<WordTag> pack(const hn::Vec<FloatTag>* sums) {
    const WordTag d;
    return hn::Or(hn::ShiftRight<16>(round(sums[0])), hn::And(round(sums[1]), hn::Set(d, 0xFFFF0000U)));
  }

  static float load(const std::byte* at) {
    Bfloat16 value;
    std::memcpy(&value, at, sizeof(value));
    return to_float(value);
  }
  static void save(float sum, std::byte* at) {
    const Bfloat16 value = to_bfloat16(sum);
    std::memcpy(at, &value, sizeof(value));
  }
};

struct Float32Row {
  static constexpr std::size_t kElementBytes = 4;
  static constexpr std::size_t kParts = 1;

  template <class V>
  static HWY_INLINE hn::Vec<FloatTag> part(V word, std::size_t /*index*/) {
    return hn::BitCast(FloatTag(), word);
  }

  static HWY_INLINE hn::Vec<WordTag> pack(const hn::Vec<FloatTag>* sums) {
    const WordTag d;
    const auto is_nan = hn::RebindMask(d, hn::IsNaN(sums[0]));
    return hn::IfThenElse(is_nan, hn::Set(d, kFloat32Nan), hn::BitCast(d, sums[0]));
  }

  static float load(const std::byte* at) {
    float value = 0;
    std::memcpy(&value, at, sizeof(value));
    return value;
  }
  static void save(float sum, std::byte* at) {
    const float value = with_canonical_nan(sum);
    std::memcpy(at, &value, sizeof(value));
  }
};

/// The addends of one token: rows of `count` pointers, summed in order.
struct Addends {
  const std::byte* const* rows;
  const std::byte* const* next_rows;  ///< the same of the next token, prefetched
  std::size_t count;
  std::size_t next_count;
};

template <class Row, Stores kStores, Prefetch kPrefetch>
HWY_INLINE void reduce_row(const Addends& addends, std::byte* out, std::size_t hidden) {
  const WordTag d;
  const FloatTag df;
  const std::size_t word_bytes = hn::Lanes(d) * sizeof(std::uint32_t);
  const std::size_t bytes = hidden * Row::kElementBytes;
  std::size_t at = 0;
  for (; at + kUnroll * word_bytes <= bytes; at += kUnroll * word_bytes) {
    hn::Vec<FloatTag> sums[kUnroll * Row::kParts];
    for (auto& sum : sums) sum = hn::Zero(df);
    if constexpr (kPrefetch == Prefetch::kFar) {
      for (std::size_t i = 0; i < addends.next_count; ++i) {
        prefetch_ahead<kPrefetch>(addends.next_rows[i] + at, 0, 0, kUnroll * word_bytes);
      }
    }
    for (std::size_t i = 0; i < addends.count; ++i) {
      if constexpr (kPrefetch == Prefetch::kNear) {
        prefetch_ahead<kPrefetch>(addends.rows[i] + at, 256, 256, kUnroll * word_bytes);
      }
      const auto* from = reinterpret_cast<const std::uint32_t*>(addends.rows[i] + at);
      for (std::size_t u = 0; u < kUnroll; ++u) {
        const auto word = hn::LoadU(d, from + u * hn::Lanes(d));
        for (std::size_t p = 0; p < Row::kParts; ++p) {
          auto& sum = sums[u * Row::kParts + p];
          sum = hn::Add(sum, Row::part(word, p));
        }
      }
    }
    auto* to = reinterpret_cast<std::uint32_t*>(out + at);
    for (std::size_t u = 0; u < kUnroll; ++u) {
      store<kStores>(Row::pack(&sums[u * Row::kParts]), d, to + u * hn::Lanes(d));
    }
  }
  for (; at < bytes; at += Row::kElementBytes) {
    float sum = 0.0F;
    for (std::size_t i = 0; i < addends.count; ++i) sum += Row::load(addends.rows[i] + at);
    Row::save(sum, out + at);
  }
}

/// Pointers to the addends of a token, biases first. Returns how many there are.
std::size_t gather_addends(const ReduceArgs& args, std::int64_t token, const std::byte** rows) {
  const plan::RouteTable& route = *args.route;
  if (token >= route.num_tokens()) return 0;
  const auto t = static_cast<std::size_t>(token);
  std::size_t count = 0;
  if (args.bias_0 != nullptr) rows[count++] = args.bias_0 + t * args.bias_0_stride;
  if (args.bias_1 != nullptr) rows[count++] = args.bias_1 + t * args.bias_1_stride;
  const auto end = static_cast<std::size_t>(route.begin[t + 1]);
  for (auto entry = static_cast<std::size_t>(route.begin[t]); entry < end; ++entry) {
    const auto rank = static_cast<std::size_t>(route.rank[entry]);
    rows[count++] = args.sources[rank] + static_cast<std::size_t>(route.row[entry]) * args.source_strides[rank];
  }
  return count;
}

template <class Row, Stores kStores, Prefetch kPrefetch>
void reduce_all(const ReduceArgs& args, const std::byte** rows, const std::byte** next_rows) {
  const std::size_t row_bytes = args.hidden * Row::kElementBytes;
  std::size_t count = gather_addends(args, 0, rows);
  for (std::int64_t token = 0; token < args.route->num_tokens(); ++token) {
    const std::size_t next_count = gather_addends(args, token + 1, next_rows);
    reduce_row<Row, kStores, kPrefetch>({rows, next_rows, count, next_count},
                                        args.out + static_cast<std::size_t>(token) * row_bytes, args.hidden);
    std::swap(rows, next_rows);
    count = next_count;
  }
}

template <class Row, Prefetch kPrefetch>
void reduce_with(const ReduceArgs& args, const std::byte** rows, const std::byte** next_rows) {
  const std::size_t row_bytes = args.hidden * Row::kElementBytes;
  if (args.stores == Stores::kStreaming && is_vector_aligned(args.out) && row_bytes % hn::Lanes(ByteTag()) == 0) {
    reduce_all<Row, Stores::kStreaming, kPrefetch>(args, rows, next_rows);
    hwy::FlushStream();
  } else {
    reduce_all<Row, Stores::kCached, kPrefetch>(args, rows, next_rows);
  }
}

template <class Row>
void reduce_rows(const ReduceArgs& args, const std::byte** rows, const std::byte** next_rows, bool look_far) {
  look_far ? reduce_with<Row, Prefetch::kFar>(args, rows, next_rows)
           : reduce_with<Row, Prefetch::kNear>(args, rows, next_rows);
}

void reduce_rows_bfloat16(const ReduceArgs& args, const std::byte** rows, const std::byte** next_rows, bool look_far) {
  reduce_rows<Bfloat16Row>(args, rows, next_rows, look_far);
}

void reduce_rows_float32(const ReduceArgs& args, const std::byte** rows, const std::byte** next_rows, bool look_far) {
  reduce_rows<Float32Row>(args, rows, next_rows, look_far);
}

}  // namespace
}  // namespace crossdock::host::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
#include <vector>

namespace crossdock::host {

namespace {

HWY_EXPORT(multicast_rows);
HWY_EXPORT(reduce_rows_bfloat16);
HWY_EXPORT(reduce_rows_float32);

enum class Vendor : std::uint8_t { kIntel, kAmd, kOther };

Vendor vendor() {
#if defined(__x86_64__)
  static const Vendor here = __builtin_cpu_is("intel") != 0 ? Vendor::kIntel
                             : __builtin_cpu_is("amd") != 0 ? Vendor::kAmd
                                                            : Vendor::kOther;
  return here;
#else
  return Vendor::kOther;
#endif
}

/// Which Prefetch suits this processor.
bool looks_far() { return vendor() == Vendor::kIntel; }

/// The most addends a token can have: every rank once, and two biases.
std::size_t max_addends(const plan::RouteTable& route) {
  std::int32_t most = 0;
  for (std::size_t t = 0; t + 1 < route.begin.size(); ++t) most = std::max(most, route.begin[t + 1] - route.begin[t]);
  return static_cast<std::size_t>(most) + 2;
}

}  // namespace

void multicast_rows(const MulticastArgs& args) { HWY_DYNAMIC_DISPATCH(multicast_rows)(args, looks_far()); }

void reduce_rows_bfloat16(const ReduceArgs& args) {
  const std::size_t most = max_addends(*args.route);
  std::vector<const std::byte*> rows(2 * most);
  HWY_DYNAMIC_DISPATCH(reduce_rows_bfloat16)(args, rows.data(), rows.data() + most, looks_far());
}

void reduce_rows_float32(const ReduceArgs& args) {
  const std::size_t most = max_addends(*args.route);
  std::vector<const std::byte*> rows(2 * most);
  HWY_DYNAMIC_DISPATCH(reduce_rows_float32)(args, rows.data(), rows.data() + most, looks_far());
}

Stores stores_for(std::size_t batch_bytes) {
  return is_large_batch(batch_bytes) || vendor() == Vendor::kAmd ? Stores::kStreaming : Stores::kCached;
}

std::string_view simd_target() {
  const auto targets = static_cast<std::uint64_t>(hwy::SupportedTargets() & HWY_TARGETS);
  return hwy::TargetName(static_cast<std::int64_t>(targets & (~targets + 1)));  // the lowest bit is the best target
}

}  // namespace crossdock::host
#endif  // HWY_ONCE
