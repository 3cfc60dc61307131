// Low-latency operations that every rank must refuse together, and go on.
#pragma once

#include <functional>
#include <vector>

#include <crossdock/buffer.hpp>

#include "core/low_latency_run.hpp"
#include "core/refusal.hpp"
#include "core/round_trip.hpp"
#include "core/tensors.hpp"

namespace crossdock::testing {

/// attempt(), which then shows that both modes still work.
[[nodiscard]] inline std::vector<Attempt> attempt_low_latency(int num_ranks, const std::function<void(Buffer&)>& body) {
  return attempt(num_ranks, roomy_options(), [&](Buffer& buffer) {
    const auto go_on = [&] {
      run_low_latency_round_trip(buffer);
      run_round_trip(buffer);  // when it is over, all have read what is staged for them
    };
    try {
      body(buffer);
    } catch (const Error&) {
      go_on();
      throw;
    }
    go_on();
  });
}

/// A right dispatch of five tokens, which stays right with other tokens, hidden or ids.
[[nodiscard]] inline LowLatencyDispatchInput good_low_latency_dispatch(const Buffer& buffer) {
  constexpr int kExperts = 6;
  LowLatencyDispatchInput input;
  input.x = make_tensor(DataType::kBfloat16, {5, 24});
  input.topk_idx = make_tensor(DataType::kInt64, {5, 2});
  for (std::int64_t i = 0; i < 10; ++i) set_id(input.topk_idx, i, i % kExperts);
  input.num_max_dispatch_tokens_per_rank = 8;
  input.num_experts = kExperts;
  input.cumulative_local_expert_recv_stats = make_tensor(DataType::kInt32, {buffer.local_experts(kExperts).count});
  return input;
}

/// A right combine, with everything that may be given, of rows in the arena.
[[nodiscard]] inline LowLatencyCombineInput good_low_latency_combine(Buffer& buffer, const LowLatencyHandle& handle,
                                                                     const Tensor& topk_idx) {
  LowLatencyCombineInput input;
  input.x = buffer.next_combine_buffer(handle);
  input.topk_weights = make_tensor(DataType::kFloat32, {topk_idx.size(0), topk_idx.size(1)});
  input.handle = handle;
  input.topk_idx = topk_idx;
  input.out = make_tensor(DataType::kBfloat16, {handle.num_tokens(), handle.hidden()});
  return input;
}

/// Waits for whatever the operation needs.
template <class Output>
void finish(const Output& output) {
  output.event.wait();
  if (output.hook.defined()) output.hook();
}

inline constexpr Completion kCompletions[] = {Completion::kSynchronous, Completion::kAsynchronous, Completion::kHook};

}  // namespace crossdock::testing
