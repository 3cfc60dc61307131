// Are the arguments of an operation right on this rank? Every check throws kInvalidArgument, saying what was given and
// what is allowed; the caller adds the rank.
#pragma once

#include <optional>

#include <crossdock/buffer.hpp>

#include "backend/handle_state.hpp"
#include "backend/low_latency_state.hpp"

namespace crossdock {

/// What a buffer allows.
struct Limits {
  int num_ranks = 1;
  int max_experts = 0;
  Device device;
};

/// Of throughput operations, which have no hooks.
void check_options(const OperationOptions& options, const Limits& limits);
void check_device(const Tensor& tensor, const char* name, const Limits& limits);
/// [tokens, hidden], rows contiguous.
void check_x(const Tensor& x, const Limits& limits);
void check_topk_idx(const Tensor& topk_idx, int num_experts, const Limits& limits);
void check_dispatch(const DispatchInput& input, int num_local_experts, const Limits& limits);
void check_cached_dispatch(const CachedDispatchInput& input, const Limits& limits);
void check_combine(const CombineInput& input, const Limits& limits);
void check_low_latency_options(const OperationOptions& options, const Limits& limits);
/// What check_options and check_low_latency_options have in common.
void check_common_options(const OperationOptions& options, const Limits& limits);
/// One dimension of so many entries, contiguous, on the buffer's device.
void check_statistics(const std::optional<Tensor>& statistics, const char* name, DataType dtype, int entries,
                      const Limits& limits);
void check_low_latency_dispatch(const LowLatencyDispatchInput& input, int num_local_experts, const Limits& limits);
void check_low_latency_combine(const LowLatencyCombineInput& input, const LowLatencyHandle::State& handle,
                               int num_local_experts, const Limits& limits);
/// E of a dispatch whose layout may say it. REQUIRES: check_dispatch passed.
[[nodiscard]] int num_experts_of(const DispatchInput& input);

}  // namespace crossdock
