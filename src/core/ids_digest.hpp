// A number that tells one topk_idx from another.
#pragma once

#include <cstdint>

#include <crossdock/tensor.hpp>

namespace crossdock {

/// FNV-1a (Fowler, Noll, Vo; 64 bits) over ids instead of bytes: equal for int64 and int32 ids that are equal.
/// REQUIRES: the tensor is contiguous, of one of these dtypes, on the host.
[[nodiscard]] std::uint64_t digest_of_ids(const Tensor& topk_idx) noexcept;

}  // namespace crossdock
