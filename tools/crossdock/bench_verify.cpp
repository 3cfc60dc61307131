#include "crossdock/bench_verify.hpp"

#include <algorithm>
#include <cstring>
#include <vector>

#include <fmt/format.h>

namespace crossdock::tool {

namespace {

/// Source rows of one rank, made anew one at a time.
class SourceRow {
 public:
  explicit SourceRow(const BenchWorld& world)
      : world_(world),
        bytes_(static_cast<std::size_t>(world.config.row_bytes())),
        scales_(static_cast<std::size_t>(world.config.num_scales())) {}

  void make(int rank, std::int64_t token) {
    const auto hidden = static_cast<std::size_t>(world_.config.hidden);
    if (world_.config.dtype == PayloadType::kBf16) {
      world_.pattern.fill_bf16(rank, token, {reinterpret_cast<Bfloat16*>(bytes_.data()), hidden});  // NOLINT
    } else {
      world_.pattern.fill_fp8(rank, token, {reinterpret_cast<std::uint8_t*>(bytes_.data()), hidden});  // NOLINT
      world_.pattern.fill_scales(rank, token, scales_);
    }
  }
  [[nodiscard]] const std::vector<std::byte>& bytes() const noexcept { return bytes_; }
  [[nodiscard]] const std::vector<float>& scales() const noexcept { return scales_; }

  /// What an expert answers that does nothing.
  void answer(std::span<Bfloat16> out) const {
    if (world_.config.dtype == PayloadType::kBf16) {
      std::memcpy(out.data(), bytes_.data(), bytes_.size());
    } else {
      dequantize({reinterpret_cast<const std::uint8_t*>(bytes_.data()), out.size()}, scales_, out);  // NOLINT
    }
  }

 private:
  const BenchWorld& world_;
  std::vector<std::byte> bytes_;
  std::vector<float> scales_;
};

template <typename T>
bool row_equals(const Tensor& tensor, std::int64_t row, const std::vector<T>& expected) {
  const auto bytes = expected.size() * sizeof(T);
  return std::memcmp(tensor.data_as<std::byte>() + static_cast<std::size_t>(row) * bytes, expected.data(), bytes) == 0;
}

/// Goes through the rows that a rank should receive, in order.
class ReceivedRows {
 public:
  ReceivedRows(const BenchWorld& world, int rank, const ReceivedTensors& received)
      : world_(world),
        rank_(rank),
        received_(received),
        experts_(world.routing.shape.num_experts, world.routing.shape.num_ranks),
        source_(world),
        ids_(static_cast<std::size_t>(world.routing.shape.num_topk)),
        weights_(ids_.size()) {}

  std::string find_mismatch() { return world_.config.expand ? find_in_groups() : find_by_source(); }

 private:
  std::string find_by_source() {
    const std::int64_t num_rows = received_.recv_x.size(0);
    std::int64_t row = 0;
    for (int source = 0; source < world_.routing.shape.num_ranks; ++source) {
      for (std::int64_t token = 0; token < world_.routing.shape.num_tokens; ++token) {
        if (!localize(source, token)) continue;
        if (row >= num_rows) return fmt::format("rank {} received only {} rows", rank_, num_rows);
        source_.make(source, token);
        if (const auto what = differing_part(row, received_.recv_src_idx.data_as<std::int32_t>()[row] == token);
            !what.empty()) {
          return fmt::format("rank {}: {} of received row {} is not that of rank {}, token {}", rank_, what, row,
                             source, token);
        }
        ++row;
      }
    }
    if (row != num_rows) return fmt::format("rank {} received {} rows, not {}", rank_, num_rows, row);
    return {};
  }

  /// Of an expanded dispatch: groups of local experts, each by (source rank, source token, column), then padding.
  std::string find_in_groups() {
    const std::int64_t num_rows = received_.recv_x.size(0);
    const std::int64_t alignment = *world_.config.expand;
    std::int64_t row = 0;
    for (int expert = experts_.begin(rank_); expert < experts_.begin(rank_) + experts_.count(rank_); ++expert) {
      auto mismatch = find_in_group(expert, row);
      for (; mismatch.empty() && row % alignment != 0; ++row) {
        if (row >= num_rows || !is_padding(row)) mismatch = fmt::format("rank {}: row {} is no padding", rank_, row);
      }
      if (!mismatch.empty()) return mismatch;
    }
    if (row != num_rows) return fmt::format("rank {} received {} rows, not {}", rank_, num_rows, row);
    return {};
  }

  std::string find_in_group(int expert, std::int64_t& row) {
    for (int source = 0; source < world_.routing.shape.num_ranks; ++source) {
      for (std::int64_t token = 0; token < world_.routing.shape.num_tokens; ++token) {
        const auto ids = world_.routing.ids_of(source, token);
        for (std::size_t k = 0; k < ids.size(); ++k) {
          if (ids[k] != expert) continue;
          if (row >= received_.recv_x.size(0)) return fmt::format("rank {} received only {} rows", rank_, row);
          source_.make(source, token);
          weights_ = {world_.routing.weights_of(source)[static_cast<std::size_t>(token) * ids.size() + k]};
          if (const auto what = differing_part(row, received_.recv_src_idx.data_as<std::int32_t>()[row] == token);
              !what.empty()) {
            return fmt::format("rank {}: {} of received row {} is not that of rank {}, token {}, expert {}", rank_,
                               what, row, source, token, expert);
          }
          ++row;
        }
      }
    }
    return {};
  }

  [[nodiscard]] bool is_padding(std::int64_t row) const {
    const std::vector<std::byte> zeros(static_cast<std::size_t>(world_.config.row_bytes()));
    return received_.recv_src_idx.data_as<std::int32_t>()[row] == -1 && row_equals(received_.recv_x, row, zeros) &&
           received_.recv_topk_weights.data_as<float>()[row] == 0.0F;
  }

  /// Local ids and weights of a token; false if none is local.
  bool localize(int source, std::int64_t token) {
    const auto ids = world_.routing.ids_of(source, token);
    const auto weights = world_.routing.weights_of(source).subspan(static_cast<std::size_t>(token) * ids.size());
    bool any = false;
    for (std::size_t k = 0; k < ids.size(); ++k) {
      const bool local = ids[k] >= 0 && experts_.owner(ids[k]) == rank_;
      ids_[k] = local ? ids[k] - experts_.begin(rank_) : -1;
      weights_[k] = local ? weights[k] : 0.0F;
      any = any || local;
    }
    return any;
  }

  [[nodiscard]] std::string differing_part(std::int64_t row, bool same_token) const {
    if (!same_token) return "the source token";
    if (!row_equals(received_.recv_x, row, source_.bytes())) return "the payload";
    if (received_.recv_x_scales && !row_equals(*received_.recv_x_scales, row, source_.scales())) return "the scales";
    if (received_.recv_topk_idx && !row_equals(*received_.recv_topk_idx, row, ids_)) return "the local expert ids";
    if (!row_equals(received_.recv_topk_weights, row, weights_)) return "the weights";
    return {};
  }

  const BenchWorld& world_;
  int rank_;
  const ReceivedTensors& received_;
  plan::ExpertMap experts_;
  SourceRow source_;
  std::vector<std::int64_t> ids_;
  std::vector<float> weights_;
};

}  // namespace

std::string find_dispatch_mismatch(const BenchWorld& world, int rank, const ReceivedTensors& received) {
  return ReceivedRows(world, rank, received).find_mismatch();
}

std::string find_combine_mismatch(const BenchWorld& world, int rank, ExpertMark mark, const Tensor& combined_x) {
  const plan::ExpertMap experts(world.routing.shape.num_experts, world.routing.shape.num_ranks);
  const auto hidden = static_cast<std::size_t>(world.config.hidden);
  SourceRow source(world);
  std::vector<int> destinations;
  std::vector<Bfloat16> answer(hidden);
  std::vector<Bfloat16> expected(hidden);
  std::vector<float> sum(hidden);
  for (std::int64_t token = 0; token < world.routing.shape.num_tokens; ++token) {
    source.make(rank, token);
    find_destinations(world.routing.ids_of(rank, token), experts, world.config.token_rows(), destinations);
    std::fill(sum.begin(), sum.end(), 0.0F);
    for (const int destination : destinations) {
      source.answer(answer);
      if (mark == ExpertMark::kRank) mark_row(answer, destination);
      for (std::size_t i = 0; i < hidden; ++i) sum[i] += to_float(answer[i]);
    }
    for (std::size_t i = 0; i < hidden; ++i) expected[i] = to_bfloat16(sum[i]);
    if (!row_equals(combined_x, token, expected)) {
      return fmt::format("rank {}: combined row of token {} is not the sum of its contributions", rank, token);
    }
  }
  return {};
}

}  // namespace crossdock::tool
