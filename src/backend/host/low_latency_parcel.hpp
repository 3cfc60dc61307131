// What a rank stages in its own window for one low-latency dispatch: the others fetch their rows from there.
#pragma once

#include <cstddef>
#include <cstdint>

#include "backend/host/arena.hpp"

namespace crossdock::host {

/// One row that a destination is to get.
struct ParcelEntry {
  std::int32_t token = 0;   ///< at its source
  std::int32_t expert = 0;  ///< within the destination
};

/// Offsets within a parcel: a row and its scales for each token, then the entries, sorted by (destination, token,
/// column of topk_idx). Source and destination compute it from what the source has announced.
class ParcelLayout {
 public:
  /// `row_bytes` and `scale_bytes` are those of one token.
  ParcelLayout(std::int64_t num_tokens, std::size_t row_bytes, std::size_t scale_bytes) noexcept
      : row_stride_(round_up(row_bytes)),
        scale_bytes_(scale_bytes),
        scales_(static_cast<std::size_t>(num_tokens) * row_stride_),
        entries_(round_up(scales_ + static_cast<std::size_t>(num_tokens) * scale_bytes)) {}

  [[nodiscard]] std::size_t row(std::int64_t token) const noexcept {
    return static_cast<std::size_t>(token) * row_stride_;
  }
  [[nodiscard]] std::size_t scales(std::int64_t token) const noexcept {
    return scales_ + static_cast<std::size_t>(token) * scale_bytes_;
  }
  [[nodiscard]] std::size_t entry(std::size_t index) const noexcept { return entries_ + index * sizeof(ParcelEntry); }
  [[nodiscard]] std::size_t bytes(std::size_t num_entries) const noexcept { return round_up(entry(num_entries)); }

 private:
  static constexpr std::size_t round_up(std::size_t bytes) noexcept {
    return (bytes + Arena::kSlabAlignment - 1) / Arena::kSlabAlignment * Arena::kSlabAlignment;
  }

  std::size_t row_stride_;
  std::size_t scale_bytes_;
  std::size_t scales_;
  std::size_t entries_;
};

}  // namespace crossdock::host
