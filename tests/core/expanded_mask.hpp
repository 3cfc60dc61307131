// An expanded dispatch whose handle is used after a rank was masked.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include <crossdock/buffer.hpp>

#include "support/world_tensor.hpp"

namespace crossdock::testing {

inline constexpr int kExpandedMaskRanks = 4;

/// One rank's part. All ranks dispatch; then rank 2 is masked, and the others repeat the dispatch and combine what they
/// received. `meet` is a barrier of all ranks. With a worst case the dispatch says how many rows there will be. Returns
/// what differs from the oracle.
[[nodiscard]] std::vector<std::string> run_expanded_mask(Buffer& buffer, const TensorPlace& place,
                                                         const std::function<void()>& meet, bool with_worst_case);

}  // namespace crossdock::testing
