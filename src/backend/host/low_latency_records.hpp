// What a low-latency dispatch tells the caller of its rows.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "backend/host/arena.hpp"

namespace crossdock::host {

/// Where the handle's tensors lie in the slab that they share.
class RecordsLayout {
 public:
  RecordsLayout(std::int64_t local, int num_ranks, std::int64_t places) noexcept
      : layout_range_(Arena::slab_bytes(DataType::kInt32, std::array{local})),
        src_info_(layout_range_ + Arena::slab_bytes(DataType::kInt64, std::array{local, std::int64_t{num_ranks}})),
        bytes_(src_info_ + Arena::slab_bytes(DataType::kInt32, std::array{local, places})) {}

  [[nodiscard]] static std::size_t count() noexcept { return 0; }
  [[nodiscard]] std::size_t layout_range() const noexcept { return layout_range_; }
  [[nodiscard]] std::size_t src_info() const noexcept { return src_info_; }
  [[nodiscard]] std::size_t bytes() const noexcept { return bytes_; }

 private:
  std::size_t layout_range_;
  std::size_t src_info_;
  std::size_t bytes_;
};

}  // namespace crossdock::host
