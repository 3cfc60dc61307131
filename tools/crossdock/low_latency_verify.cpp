#include "crossdock/low_latency_verify.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <vector>

#include <fmt/format.h>

#include "codec/float8.hpp"
#include "codec/logfmt.hpp"

namespace crossdock::tool {

namespace {

/// What dispatch makes of one token's row, and what an expert answers to that.
class DispatchedRow {
 public:
  explicit DispatchedRow(const BenchWorld& world)
      : world_(world),
        row_(static_cast<std::size_t>(world.config.hidden)),
        codes_(world.config.dtype == PayloadType::kFp8 ? row_.size() : 0),
        scales_(static_cast<std::size_t>(world.config.num_scales())) {}

  void make(int rank, std::int64_t token) {
    world_.pattern.fill_bf16(rank, token, row_);
    if (!codes_.empty()) codec::quantize_row(row_, codec::ScaleRounding::kNone, codes_, scales_);
  }

  [[nodiscard]] bool equals_payload(const Tensor& x, std::size_t place) const {
    if (codes_.empty()) {
      return std::memcmp(x.data_as<Bfloat16>() + place * row_.size(), row_.data(), row_.size() * sizeof(Bfloat16)) == 0;
    }
    return std::memcmp(x.data_as<std::uint8_t>() + place * codes_.size(), codes_.data(), codes_.size()) == 0;
  }
  [[nodiscard]] bool equals_scales(const Tensor& scales, std::int64_t expert, std::int64_t place) const {
    for (std::size_t group = 0; group < scales_.size(); ++group) {
      const std::int64_t at =
          expert * scales.stride(0) + place * scales.stride(1) + static_cast<std::int64_t>(group) * scales.stride(2);
      if (scales.data_as<std::uint32_t>()[at] != std::bit_cast<std::uint32_t>(scales_[group])) return false;
    }
    return true;
  }

  void answer(std::span<Bfloat16> out) const {
    if (codes_.empty()) {
      std::copy(row_.begin(), row_.end(), out.begin());
    } else {
      dequantize(codes_, scales_, out);
    }
  }

 private:
  const BenchWorld& world_;
  std::vector<Bfloat16> row_;
  std::vector<std::uint8_t> codes_;
  std::vector<float> scales_;
};

/// Goes through the rows that a rank's experts should receive, in order.
class PackedRows {
 public:
  PackedRows(const BenchWorld& world, int rank, const PackedTensors& received)
      : world_(world), rank_(rank), received_(received), row_(world) {}

  std::string find_mismatch() {
    const auto& shape = world_.routing.shape;
    const plan::ExpertMap experts(shape.num_experts, shape.num_ranks);
    for (int local = 0; local < experts.count(rank_); ++local) {
      if (auto what = mismatch_of_expert(local, experts.begin(rank_) + local); !what.empty()) return what;
    }
    return {};
  }

 private:
  std::string mismatch_of_expert(std::int64_t local, int expert) {
    const auto& shape = world_.routing.shape;
    std::int64_t place = 0;
    for (int source = 0; source < shape.num_ranks; ++source) {
      const std::int64_t begin = place;
      for (std::int64_t token = 0; token < shape.num_tokens; ++token) {
        for (const std::int32_t id : world_.routing.ids_of(source, token)) {
          if (id != expert) continue;
          row_.make(source, token);
          if (const auto part = differing_part(local, place, token); !part.empty()) {
            return fmt::format("rank {}: {} of row {} of expert {} is not that of rank {}, token {}", rank_, part,
                               place, expert, source, token);
          }
          ++place;
        }
      }
      const std::int64_t range = received_.layout_range.data_as<std::int64_t>()[local * shape.num_ranks + source];
      if (range != (begin << 32U | (place - begin))) {
        return fmt::format("rank {}: expert {} has a wrong range of rows of rank {}", rank_, expert, source);
      }
    }
    const std::int32_t count = received_.count.data_as<std::int32_t>()[local];
    if (count == place) return {};
    return fmt::format("rank {}: expert {} received {} rows, not {}", rank_, expert, count, place);
  }

  [[nodiscard]] std::string differing_part(std::int64_t local, std::int64_t place, std::int64_t token) const {
    const auto at = static_cast<std::size_t>(local * received_.x.size(1) + place);
    if (received_.src_info.data_as<std::int32_t>()[at] != token) return "the source token";
    if (!row_.equals_payload(received_.x, at)) return "the payload";
    if (received_.scales && !row_.equals_scales(*received_.scales, local, place)) return "a scale";
    return {};
  }

  const BenchWorld& world_;
  int rank_;
  const PackedTensors& received_;
  DispatchedRow row_;
};

/// What combine makes of an answer before it sums: float32, by way of the wire.
class TravelledRow {
 public:
  explicit TravelledRow(const BenchConfig& config)
      : values_(static_cast<std::size_t>(config.hidden)),
        wire_(static_cast<std::size_t>(config.use_logfmt ? codec::logfmt_max_bytes(config.hidden) : 0)) {}

  std::span<const float> send(std::span<const Bfloat16> answer) {
    if (wire_.empty()) {
      std::transform(answer.begin(), answer.end(), values_.begin(), to_float);
    } else {
      codec::encode_logfmt(answer, wire_);
      codec::decode_logfmt(wire_, values_);
    }
    return values_;
  }

 private:
  std::vector<float> values_;
  std::vector<std::byte> wire_;
};

}  // namespace

std::string find_packed_mismatch(const BenchWorld& world, int rank, const PackedTensors& received) {
  if (received.scales.has_value() != (world.config.dtype == PayloadType::kFp8)) {
    return fmt::format("rank {}: scales are there that should not be, or the other way round", rank);
  }
  return PackedRows(world, rank, received).find_mismatch();
}

std::string find_weighted_mismatch(const BenchWorld& world, int rank, ExpertMark mark, const Tensor& combined_x) {
  const auto hidden = static_cast<std::size_t>(world.config.hidden);
  DispatchedRow row(world);
  TravelledRow travelled(world.config);
  std::vector<Bfloat16> answer(hidden);
  std::vector<Bfloat16> expected(hidden);
  std::vector<float> sum(hidden);
  for (std::int64_t token = 0; token < world.routing.shape.num_tokens; ++token) {
    const auto ids = world.routing.ids_of(rank, token);
    const auto weights = world.routing.weights_of(rank).subspan(static_cast<std::size_t>(token) * ids.size());
    row.make(rank, token);
    row.answer(answer);
    std::span<const float> values = travelled.send(answer);
    std::fill(sum.begin(), sum.end(), 0.0F);
    for (std::size_t k = 0; k < ids.size(); ++k) {
      if (ids[k] < 0) continue;
      if (mark == ExpertMark::kExpert) {
        row.answer(answer);
        mark_row(answer, ids[k]);
        values = travelled.send(answer);
      }
      for (std::size_t i = 0; i < hidden; ++i) sum[i] = std::fma(values[i], weights[k], sum[i]);
    }
    for (std::size_t i = 0; i < hidden; ++i) expected[i] = to_bfloat16(sum[i]);
    if (std::memcmp(combined_x.data_as<Bfloat16>() + static_cast<std::size_t>(token) * hidden, expected.data(),
                    hidden * sizeof(Bfloat16)) != 0) {
      return fmt::format("rank {}: combined row of token {} is not the weighted sum of its answers", rank, token);
    }
  }
  return {};
}

std::int64_t logfmt_wire_bytes(const Tensor& count, const Tensor& x) {
  const auto hidden = static_cast<std::size_t>(x.size(2));
  std::int64_t bytes = 0;
  for (std::int64_t expert = 0; expert < x.size(0); ++expert) {
    const Bfloat16* row = x.data_as<Bfloat16>() + expert * x.stride(0);
    for (std::int32_t i = 0; i < count.data_as<std::int32_t>()[expert]; ++i, row += hidden) {
      bytes += codec::logfmt_wire_bytes({row, hidden});
    }
  }
  return bytes;
}

}  // namespace crossdock::tool
