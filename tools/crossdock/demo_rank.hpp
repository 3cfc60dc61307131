// What one rank of the demonstration does.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>

#include <crossdock/bootstrap.hpp>
#include <crossdock/buffer.hpp>

#include "crossdock/moe_layer.hpp"
#include "crossdock/shared_block.hpp"

namespace crossdock::tool {

enum class DemoStage : int { kJoining, kDispatching, kComputing, kCombining, kDone };

struct DemoTimes {
  double dispatch_us = 0;
  double experts_us = 0;
  double combine_us = 0;
  Buffer::PhaseTimes dispatch;
  Buffer::PhaseTimes combine;
};

/// What the ranks tell their launcher.
struct DemoShared {
  DemoShared(int num_ranks_value, const MoeLayer& layer)
      : num_ranks(num_ranks_value),
        stages(static_cast<std::size_t>(num_ranks)),
        rows(static_cast<std::size_t>(num_ranks) * static_cast<std::size_t>(num_ranks)),
        expert_load(static_cast<std::size_t>(layer.num_experts)),
        times(static_cast<std::size_t>(num_ranks)),
        y(layer.y.size()) {}

  int num_ranks;
  SharedBlock<std::atomic<int>> stages;   ///< DemoStage of each rank
  SharedBlock<std::int64_t> rows;         ///< [source, destination]; one for each expert in low-latency mode
  SharedBlock<std::int64_t> expert_load;  ///< selections of each expert
  SharedBlock<DemoTimes> times;           ///< of each rank, last pass
  SharedBlock<float> y;                   ///< [N, H]: what came out of combine
};

/// First token of a rank when N tokens are spread over R ranks; rank R is the end.
[[nodiscard]] constexpr std::int64_t first_token(std::int64_t num_tokens, int num_ranks, int rank) {
  return num_tokens * rank / num_ranks;
}

struct DemoRankOptions {
  int passes = 3;                                ///< the whole job this many times; the last one is reported
  DataType combine_dtype = DataType::kBfloat16;  ///< of the experts' answers; kBfloat16 or kFloat32
  Milliseconds timeout{60'000};
};

/// Routes this rank's tokens as recorded, dispatches them, runs its experts, combines, and writes its share of
/// `shared`. Collective. Throws what the buffer throws.
void run_demo_rank(const MoeLayer& layer, const DemoRankOptions& options, const DemoShared& shared,
                   const std::shared_ptr<Bootstrap>& bootstrap);

}  // namespace crossdock::tool
