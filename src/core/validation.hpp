// Are the arguments of an operation right on this rank? Every check throws kInvalidArgument, saying what was given and
// what is allowed; the caller adds the rank.
#pragma once

#include <crossdock/buffer.hpp>

#include "backend/handle_state.hpp"

namespace crossdock {

/// What a buffer allows.
struct Limits {
  int num_ranks = 1;
  int max_experts = 0;
  Device device;
};

void check_options(const OperationOptions& options);
void check_topk_idx(const Tensor& topk_idx, int num_experts, const Limits& limits);
void check_dispatch(const DispatchInput& input, const Limits& limits);
void check_cached_dispatch(const CachedDispatchInput& input, const Limits& limits);
void check_combine(const CombineInput& input, const Limits& limits);
/// E of a dispatch whose layout may say it. REQUIRES: check_dispatch passed.
[[nodiscard]] int num_experts_of(const DispatchInput& input);

}  // namespace crossdock
