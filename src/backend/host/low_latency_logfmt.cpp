#include "backend/host/low_latency_logfmt.hpp"

#include <algorithm>

#include "backend/host/arena.hpp"
#include "backend/host/low_latency_kernels.hpp"
#include "codec/logfmt.hpp"

namespace crossdock::host {

std::size_t logfmt_stride(std::int64_t hidden) noexcept {
  const auto bytes = static_cast<std::size_t>(codec::logfmt_max_bytes(hidden));
  return (bytes + Arena::kSlabAlignment - 1) / Arena::kSlabAlignment * Arena::kSlabAlignment;
}

void stage_logfmt_rows(const Bfloat16* x, std::size_t rows, std::int64_t hidden, std::byte* staged) {
  const std::size_t stride = logfmt_stride(hidden);
  const auto elements = static_cast<std::size_t>(hidden);
  for (std::size_t row = 0; row < rows; ++row) {
    codec::encode_logfmt({x + row * elements, elements}, {staged + row * stride, stride});
  }
}

void sum_weighted_logfmt_rows(std::span<const WeightedRow> rows, std::size_t hidden, std::span<float> scratch,
                              std::byte* out) {
  const std::span<float> sum = scratch.first(hidden);
  const std::span<float> decoded = scratch.subspan(hidden, hidden);
  std::ranges::fill(sum, 0.0F);
  for (const WeightedRow& addend : rows) {
    codec::decode_logfmt({addend.row, logfmt_stride(static_cast<std::int64_t>(hidden))}, decoded);
    add_weighted(decoded, addend.weight, sum);
  }
  round_to_bfloat16(sum, out);
}

}  // namespace crossdock::host
