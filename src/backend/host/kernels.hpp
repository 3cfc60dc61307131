// The loops that move and sum rows, compiled for several instruction sets and chosen at run time (Highway).
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "plan/route.hpp"

namespace crossdock::host {

/// How stores are made.
enum class Stores : std::uint8_t {
  kCached,     ///< the row is read again soon
  kStreaming,  ///< the row goes past the caches; falls back to kCached where rows are not aligned to a vector
};

/// What a core's own caches keep for whoever reads the rows next.
inline constexpr std::size_t kMostCoreKeeps = std::size_t{1} << 20U;
[[nodiscard]] constexpr bool is_large_batch(std::size_t bytes) noexcept { return bytes > kMostCoreKeeps; }

/// What suits this processor and a batch of that many bytes (docs/performance.md has the measurements). Large batches
/// stream everywhere. Small ones stay in the caches on Intel; on AMD a store to a line that another core has read last
/// is so slow that streaming wins for a single row.
[[nodiscard]] Stores stores_for(std::size_t batch_bytes);

/// Reads each row of `source` once and stores it at all its destinations.
struct MulticastArgs {
  const plan::RouteTable* route = nullptr;
  const std::byte* source = nullptr;  ///< row of token 0
  std::size_t source_stride = 0;      ///< bytes from token to token
  std::size_t row_bytes = 0;
  std::byte* const* destinations = nullptr;  ///< [R] first row of this rank's block at each rank; rows are packed
  Stores stores = Stores::kCached;
};
/// After streaming stores the rows are visible to others only after a release that follows this call.
void multicast_rows(const MulticastArgs& args);

/// out[t] = round(bias_0[t] + bias_1[t] + sum over the destinations of t, ascending, of their row for t), in float32.
struct ReduceArgs {
  const plan::RouteTable* route = nullptr;
  const std::byte* const* sources = nullptr;    ///< [R] first row of this rank's block at each rank
  const std::size_t* source_strides = nullptr;  ///< [R] bytes from row to row
  const std::byte* bias_0 = nullptr;            ///< row of token 0, or null
  std::size_t bias_0_stride = 0;
  const std::byte* bias_1 = nullptr;
  std::size_t bias_1_stride = 0;
  std::byte* out = nullptr;  ///< packed rows
  std::size_t hidden = 0;
  Stores stores = Stores::kCached;
};
void reduce_rows_bfloat16(const ReduceArgs& args);
void reduce_rows_float32(const ReduceArgs& args);

/// The instruction set that the loops above use here, as Highway names it: "AVX3_ZEN4", "AVX2", "NEON", ...
[[nodiscard]] std::string_view simd_target();

}  // namespace crossdock::host
