// Ids of experts, int64 or int32.
#pragma once

#include <cstddef>
#include <cstdint>

namespace crossdock::cuda::device {

/// What does not fit an int becomes an id that is not allowed.
__device__ inline int thread_read_id(const std::byte* ids, int id_bytes, std::int64_t index) {
  constexpr long long kNarrow = 0x7FFFFFFF;
  if (id_bytes == 4) return reinterpret_cast<const int*>(ids)[index];
  const long long id = reinterpret_cast<const long long*>(ids)[index];
  return id < -kNarrow || id > kNarrow ? static_cast<int>(kNarrow) : static_cast<int>(id);
}

}  // namespace crossdock::cuda::device
