#include <crossdock/config.hpp>

#include <algorithm>

#include "base/error.hpp"

namespace crossdock {

namespace {

/// Slabs of the arena, and DeepEP's buffers, are multiples of this.
constexpr std::uint64_t kAlignment = 128;

/// Bytes, with arithmetic that throws kCapacity instead of wrapping around.
class Bytes64 {
 public:
  Bytes64(std::uint64_t value) : value_(value) {}  // NOLINT(google-explicit-constructor): plain numbers mix freely

  /// REQUIRES: value >= 0.
  [[nodiscard]] static Bytes64 of(std::int64_t value) { return {static_cast<std::uint64_t>(value)}; }

  [[nodiscard]] std::uint64_t value() const { return value_; }
  [[nodiscard]] Bytes64 rounded_up() const { return (*this + (kAlignment - 1)).value_ / kAlignment * kAlignment; }

  friend Bytes64 operator+(Bytes64 a, Bytes64 b) {
    std::uint64_t result = 0;
    check(!__builtin_add_overflow(a.value_, b.value_, &result));
    return result;
  }
  friend Bytes64 operator*(Bytes64 a, Bytes64 b) {
    std::uint64_t result = 0;
    check(!__builtin_mul_overflow(a.value_, b.value_, &result));
    return result;
  }

 private:
  static void check(bool fits) {
    if (!fits) throw make_error(ErrorCode::kCapacity, "the size does not fit 64 bits");
  }

  std::uint64_t value_;
};

Bytes64 larger(Bytes64 a, Bytes64 b) { return std::max(a.value(), b.value()); }

void require_not_negative(const char* name, std::int64_t value) {
  require(value >= 0, "{} is {}; it must not be negative", name, value);
}

/// DeepEP reserves room for this many ids, weights and scales in each row.
constexpr std::uint64_t kDeepEpTopk = 128;
constexpr std::uint64_t kDeepEpScales = 128;
constexpr std::uint64_t kDeepEpRanksPerNode = 8;
constexpr std::uint64_t kDeepEpSourceMetaBytes = 8;

/// A row, its source and the most ids, weights and scales that may come with it.
Bytes64 deep_ep_slot_bytes(std::int64_t hidden_bytes) {
  return Bytes64::of(hidden_bytes) + kDeepEpSourceMetaBytes + kDeepEpTopk * sizeof(std::int64_t) +
         kDeepEpTopk * sizeof(float) + kDeepEpScales * sizeof(float);
}

struct DeepEpShape {
  std::uint64_t num_channels;
  std::uint64_t num_nodes;
  std::uint64_t num_ranks_in_node;
};

DeepEpShape deep_ep_shape(const Config& config, std::int64_t hidden_bytes, int num_ranks) {
  config.validate();
  require_not_negative("hidden_bytes", hidden_bytes);
  require(num_ranks >= 1, "a buffer for {} ranks; there is at least 1 rank", num_ranks);
  const auto ranks = static_cast<std::uint64_t>(num_ranks);
  return {static_cast<std::uint64_t>(config.num_sms) / 2, std::max<std::uint64_t>(ranks / kDeepEpRanksPerNode, 1),
          std::min(ranks, kDeepEpRanksPerNode)};
}

}  // namespace

std::size_t get_arena_size_hint(const ArenaSizeArgs& args) {
  require_not_negative("num_recv_tokens", args.num_recv_tokens);
  require_not_negative("row_bytes", args.row_bytes);
  require_not_negative("num_scales", args.num_scales);
  require_not_negative("scale_bytes", args.scale_bytes);
  require_not_negative("num_topk", args.num_topk);
  require_not_negative("combine_row_bytes", args.combine_row_bytes);
  require_not_negative("operations_in_flight", args.operations_in_flight);
  require_not_negative("num_routes", args.num_routes);
  require_not_negative("num_local_experts", args.num_local_experts);

  // One slab for each tensor; a slab of no bytes costs nothing.
  const auto slab = [rows = Bytes64::of(args.num_recv_tokens)](Bytes64 row_bytes) {
    return (rows * row_bytes).rounded_up();
  };
  const bool is_expanded = args.num_local_experts > 0;
  const Bytes64 topk = is_expanded ? 1 : Bytes64::of(args.num_topk);
  const Bytes64 weights = slab(topk * sizeof(float));
  const Bytes64 ids = is_expanded ? 0 : slab(topk * sizeof(std::int64_t));
  const Bytes64 group_ends = (Bytes64::of(args.num_local_experts) * sizeof(std::int32_t)).rounded_up();
  Bytes64 total = slab(Bytes64::of(args.row_bytes))                                     // recv_x
                  + slab(Bytes64::of(args.num_scales) * Bytes64::of(args.scale_bytes))  // recv_x_scales
                  + ids + weights                                                       // recv_topk_idx, _weights
                  + slab(sizeof(std::int32_t)) + group_ends;                            // recv_src_idx, expert ends
  if (args.combine_row_bytes > 0) total = total + slab(Bytes64::of(args.combine_row_bytes)) + weights;
  // A row number, a flag and at most a word for each, as many bytes as an entry of selections or two counts need at
  // most, and tables that grow with the ranks only.
  constexpr std::uint64_t kRouteBytes = sizeof(std::int32_t) + 1 + sizeof(std::uint64_t);
  constexpr std::uint64_t kTableBytes = std::uint64_t{32} << 10U;
  if (args.num_routes > 0) total = total + Bytes64::of(args.num_routes) * kRouteBytes + kTableBytes;
  return (total * Bytes64::of(args.operations_in_flight)).value();
}

std::size_t get_nvl_buffer_size_hint(const Config& config, std::int64_t hidden_bytes, int num_ranks) {
  const DeepEpShape shape = deep_ep_shape(config, hidden_bytes, num_ranks);
  const auto slots = static_cast<std::uint64_t>(config.num_max_nvl_chunked_recv_tokens);
  const Bytes64 queue = sizeof(std::int32_t) * (2 * shape.num_nodes + 3) + slots * deep_ep_slot_bytes(hidden_bytes);
  return (shape.num_channels * shape.num_ranks_in_node * queue).rounded_up().value();
}

std::size_t get_rdma_buffer_size_hint(const Config& config, std::int64_t hidden_bytes, int num_ranks) {
  const DeepEpShape shape = deep_ep_shape(config, hidden_bytes, num_ranks);
  if (static_cast<std::uint64_t>(num_ranks) <= kDeepEpRanksPerNode) return 0;
  const auto send = static_cast<std::uint64_t>(config.num_max_rdma_chunked_send_tokens);
  const auto recv = static_cast<std::uint64_t>(config.num_max_rdma_chunked_recv_tokens);
  const std::uint64_t slots = (recv + send - 1) / send * send;
  constexpr std::uint64_t kCounters = 2 * (2 * kDeepEpRanksPerNode + 2);
  constexpr std::uint64_t kSlotPadding = 16;
  const Bytes64 queue =
      sizeof(std::int32_t) * kCounters + 2 * slots * (deep_ep_slot_bytes(hidden_bytes) + kSlotPadding);
  return (shape.num_channels * shape.num_nodes * queue).rounded_up().value();
}

std::size_t get_low_latency_rdma_size_hint(int num_max_dispatch_tokens_per_rank, std::int64_t hidden, int num_ranks,
                                           int num_experts) {
  require_not_negative("num_max_dispatch_tokens_per_rank", num_max_dispatch_tokens_per_rank);
  require_not_negative("hidden", hidden);
  require_not_negative("num_experts", num_experts);
  require(num_ranks >= 1, "a buffer for {} ranks; there is at least 1 rank", num_ranks);
  const std::int64_t local_experts = (std::int64_t{num_experts} + num_ranks - 1) / num_ranks;
  const Bytes64 tokens = Bytes64::of(num_max_dispatch_tokens_per_rank);
  const Bytes64 rows = Bytes64::of(local_experts) * Bytes64::of(num_ranks) * tokens;
  const Bytes64 groups = Bytes64::of(hidden / 128 + (hidden % 128 == 0 ? 0 : 1));
  const Bytes64 row = Bytes64::of(hidden) * 2;
  const Bytes64 scales = groups * sizeof(float);
  const Bytes64 dispatched = larger(row, Bytes64::of(hidden) + scales);
  // LogFMT has a meta block, on a device of eight bytes for each group and with whole packs after it.
  constexpr std::int64_t kPack = 16;
  const Bytes64 packs = Bytes64::of(hidden / kPack + (hidden % kPack == 0 ? 0 : 1));
  const Bytes64 combined = (groups * 8 + packs * (2 * kPack)).rounded_up();
  const Bytes64 counts = (Bytes64::of(local_experts) * sizeof(std::int32_t)).rounded_up() +
                         (rows * sizeof(std::int32_t)).rounded_up() +
                         (Bytes64::of(local_experts) * Bytes64::of(num_ranks) * sizeof(std::int64_t)).rounded_up();
  // What is staged for the others: tokens, scales, and an entry of eight bytes for each row.
  const Bytes64 parcel = tokens * (dispatched.rounded_up() + scales + Bytes64::of(num_experts) * 8) + 2 * kAlignment;
  // Combines of few rows are copied once more (low_latency_combine.cpp in backend/host), if there is room.
  constexpr std::uint64_t kMostCopied = std::uint64_t{8} << 20U;
  const Bytes64 copied = num_experts > 1 ? std::min((rows * combined).rounded_up().value(), kMostCopied) : 0;
  // A dispatch and its combine. Until a dispatch begins its predecessor's combine is over for all ranks; where there
  // was none, its room is free for a second parcel.
  const Bytes64 total = (rows * dispatched).rounded_up() + kAlignment + (rows * combined).rounded_up() + copied +
                        2 * counts + parcel.rounded_up();
  return total.value();
}

}  // namespace crossdock
